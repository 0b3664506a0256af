"""What the commands say, and what they keep TensorFlow from saying."""

import contextlib
import importlib
import os
import sys

from keras_t2t.extras import require
from keras_t2t.progress import printable, working


def complain(kind: str, message: object) -> None:
    """Writes one line to stderr."""
    print(f"keras-t2t: {kind}: {printable(' '.join(str(message).split()))}", file=sys.stderr)


def load(*modules: str) -> None:
    """Imports Keras or TensorFlow, without the log.

    TensorFlow's C++ code tells of the processor and of missing GPUs when it is loaded and when it
    first looks for devices, before any of its log levels takes effect. Exceptions come through.

    Args:
        *modules: `"keras"` (with its backend), `"tensorflow"`.
    """
    missing = [name for name in modules if name not in sys.modules]
    if not missing:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with working("Loading Keras"), _silent_stderr():
        for name in missing:
            try:
                importlib.import_module(name)
            except ModuleNotFoundError as error:
                if error.name in ("jax", "torch"):  # the backend that Keras is told to use
                    require(error.name, error.name)
                raise
        if "tensorflow" in sys.modules:
            sys.modules["tensorflow"].config.list_physical_devices()


@contextlib.contextmanager
def _silent_stderr():
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
