"""Writing files and folders so that nobody ever sees half of one."""

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary path beside `path`, of the same suffix, which takes its place on success.

    Args:
        path: `pathlib.Path` of a file or a folder.
        overwrite: bool, whether what is there may be replaced: a file, or by a folder a SavedModel.

    Raises:
        FileExistsError: the path exists and `overwrite` is False.
        IsADirectoryError: the path is a folder that may not be replaced.
        FileNotFoundError: the folder that it is to lie in does not exist.
    """
    refuse_existing(path, overwrite)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}")
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".part-{writer}-{path.name}")
    old = path.with_name(f".old-{writer}-{path.name}")
    try:
        yield temporary
        refuse_existing(path, overwrite)  # It may have come in the meantime.
        if path.is_dir() and not temporary.is_dir():
            raise _no_file(path)
        # A file takes the place of a file in one step; folders do not.
        if path.exists() and (path.is_dir() or temporary.is_dir()):
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise
    except OSError as error:
        # The temporary name would tell the reader nothing, and what ran full has no name at all.
        full = error.errno == errno.ENOSPC and error.filename is None
        if full or str(error.filename) == str(temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        for left in (temporary, old):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises what `replacing` does if `path` may not be replaced, to be told before the work."""
    # A SavedModel is the only folder that is written as a whole, so the only one to be replaced.
    if path.is_dir() and not (path / "saved_model.pb").is_file():
        raise _no_file(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Pass overwrite=True to replace it.")


def _no_file(path):
    return IsADirectoryError(f"{path} is a folder, which is not replaced")
