"""Python functions inside `tf.data`, which calls them from threads of its own."""

import atexit
import collections
import threading
import time
from collections.abc import Callable

import tensorflow as tf

QUIET_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 60


_lock, _calls = threading.Lock(), collections.Counter()


def python_call(function: Callable, inputs: list, dtypes, stateful: bool = True):
    """`tf.numpy_function` in a process that can end while an iterator still lives.

    A data set that is iterated over fills its buffers ahead of whoever reads it, also when nobody
    does any more, as after Ctrl-C. A thread that enters Python while the interpreter shuts down is
    ended on the spot, and TensorFlow waits for its answer for ever. So the interpreter waits,
    before it shuts down, until the buffers are full.

    Args:
        function: Function of NumPy arrays that returns NumPy arrays.
        inputs: List of tensors.
        dtypes: Dtype or tuple of dtypes of what it returns.
        stateful: Bool, whether it must be called each time.

    Returns:
        Tensor or tuple of tensors.
    """

    def counted(*arrays):
        _count("begun")
        try:
            return function(*arrays)
        finally:
            _count("ended")

    return tf.numpy_function(counted, inputs, dtypes, stateful=stateful)


def _count(what):
    with _lock:
        _calls[what] += 1


@atexit.register
def _wait_until_quiet():
    end = time.monotonic() + LONGEST_WAIT_SECONDS
    seen = 0
    while (_calls["ended"] < _calls["begun"] or _calls["begun"] != seen) and time.monotonic() < end:
        seen = _calls["begun"]
        time.sleep(QUIET_SECONDS)
