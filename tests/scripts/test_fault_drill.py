"""The fault drill, in short."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/fault_drill.py"


@pytest.mark.tensorflow
def test_a_training_that_is_killed_ends_like_one_that_is_not():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--kills", "1", "--no-full-disk"],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "killed: after step" in done.stdout and "to the last bit" in done.stdout
