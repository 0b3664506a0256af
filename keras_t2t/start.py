"""How the `keras-t2t` command starts: without the log of TensorFlow."""

import contextlib
import os
import sys
from pathlib import Path


@contextlib.contextmanager
def quiet_if_command():
    """Keeps stderr to what the command itself has to say, while the package is imported.

    TensorFlow's C++ code tells of the processor and of missing GPUs when it is loaded and when it
    first looks for devices, before any of its log levels takes effect. Only the command silences
    that; a program that imports the package sees it. Exceptions come through; Ctrl-C ends the
    command, which has not begun yet, as it does later.
    """
    if Path(sys.argv[0] if sys.argv else "").stem != "keras-t2t":
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with _silent_stderr():
            yield
            if "tensorflow" in sys.modules:
                sys.modules["tensorflow"].config.list_physical_devices()
    except KeyboardInterrupt:
        sys.exit(130)


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
