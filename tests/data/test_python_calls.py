"""Python functions inside `tf.data`."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tensorflow

SCRIPT = """
import time
import numpy as np
import tensorflow as tf
from keras_t2t.data.python_calls import python_call

def slow(number):
    time.sleep(0.1)
    return number

def read(number):
    return python_call(slow, [number], tf.int64)

iterator = iter(tf.data.Dataset.range(1000).map(read).prefetch(8))
print(next(iterator).numpy(), flush=True)
"""


def test_a_process_ends_while_an_iterator_lives():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr[-2000:]
