"""Python functions inside `tf.data`, which calls them from threads of its own."""

import atexit
import threading
import time

import tensorflow as tf

QUIET_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 60


class _Calls:
    """Counts the calls that have begun, and those that are under way."""

    def __init__(self):
        self.lock = threading.Lock()
        self.begun = self.under_way = 0

    def __enter__(self):
        with self.lock:
            self.begun += 1
            self.under_way += 1

    def __exit__(self, *error):
        with self.lock:
            self.under_way -= 1


_calls = _Calls()


def python_call(function, inputs, dtypes, stateful=True):
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
        with _calls:
            return function(*arrays)

    return tf.numpy_function(counted, inputs, dtypes, stateful=stateful)


@atexit.register
def _wait_until_quiet():
    end = time.monotonic() + LONGEST_WAIT_SECONDS
    seen = 0
    while (_calls.under_way or _calls.begun != seen) and time.monotonic() < end:
        seen = _calls.begun
        time.sleep(QUIET_SECONDS)
