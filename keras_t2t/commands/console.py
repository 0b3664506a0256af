"""What the commands say, and what they keep TensorFlow and image decoders from saying."""

import contextlib
import importlib
import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

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
    with working("Loading Keras"), _silent_stderr(), contextlib.redirect_stderr(io.StringIO()):
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
def without_decoder_lines() -> Iterator[None]:
    """Keeps what decoders say of damaged images off the screen.

    Such images are decoded as far as they go, or reported by name. libjpeg and libtiff write to
    file descriptor 2 themselves, whatever Python's stderr is: a process reads there, for the whole
    of the block, and passes on what is not theirs. Pillow's warnings are Python's.
    """
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), _filtered_stderr():
            warnings.filterwarnings("ignore", module=r"PIL\.")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _filtered_stderr():
    try:
        stderr = os.dup(2)
    except OSError:  # there is none
        yield
        return
    read, write = os.pipe()
    program = Path(__file__).with_name("decoder_lines.py")
    # In a session of its own it outlives Ctrl-C, as whoever reads must.
    reader = subprocess.Popen(
        [sys.executable, "-IS", program],
        stdin=read,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(read)
    python_stderr = sys.stderr
    if _writes_to(python_stderr, 2):
        # A terminal remains a terminal, with its progress bars. Loggers may keep it, so that it is
        # not closed here.
        sys.stderr = open(os.dup(2), "w", buffering=1, errors="backslashreplace")
    os.dup2(write, 2)
    os.close(write)
    try:
        yield
    finally:
        sys.stderr = python_stderr
        os.dup2(stderr, 2)
        os.close(stderr)
        # A process that is left behind, with the same stderr, is not waited for.
        with contextlib.suppress(subprocess.TimeoutExpired):
            reader.wait(timeout=1)


def _writes_to(file, descriptor):
    try:
        return file.fileno() == descriptor
    except (AttributeError, OSError):  # None, or in memory
        return False


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
