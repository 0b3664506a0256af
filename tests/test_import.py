"""`import keras_t2t` loads no framework of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Each of these takes seconds or belongs to an extra.
HEAVY = {"tensorflow", "tensorflow_datasets", "keras_cv", "keras_core", "torch", "matplotlib"}

NEW_MODULES = """
import sys

import keras

before = set(sys.modules)
import keras_t2t

print(*sorted(set(sys.modules) - before))
"""


def test_import_loads_nothing_heavy():
    result = subprocess.run(
        [sys.executable, "-c", NEW_MODULES], cwd=ROOT, check=True, capture_output=True, text=True
    )
    new = result.stdout.split()
    assert "keras_t2t" in new
    assert [name for name in new if name.split(".")[0] in HEAVY] == []
