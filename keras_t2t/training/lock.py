"""One training at a time in a run's folder."""

import contextlib
import json
import logging
import os
import socket
from pathlib import Path

import filelock

logger = logging.getLogger("keras_t2t")


@contextlib.contextmanager
def locked(folder: Path, several_hosts: bool):
    """Holds the lock of a run's folder, which the operating system frees when a process dies.

    Args:
        folder: The folder, which exists.
        several_hosts: Whether the training runs on several hosts. It then goes on, with a warning,
            where another host holds the lock: nobody can see from here whether that one is dead,
            and the file system may not know yet.

    Raises:
        ValueError: If another training holds it.
    """
    lock, note = filelock.FileLock(folder / ".lock", timeout=0), folder / ".lock.json"
    here = {"host": socket.gethostname(), "process": os.getpid()}
    try:
        lock.acquire()
    except filelock.Timeout:
        try:
            holder = json.loads(note.read_text())
            name = f"process {holder['process']} on {holder['host']}"
            elsewhere = holder["host"] != here["host"]
        except (OSError, ValueError, TypeError, KeyError):  # is just being written
            name, elsewhere = "another process", False
        held = f"{folder}: {name} trains in it"
        if not (several_hosts and elsewhere):
            raise ValueError(f"{held}. Choose another folder, or wait for it to end") from None
        logger.warning("%s, or died and left the lock; going on", held)
    try:
        note.write_text(json.dumps(here))
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()
