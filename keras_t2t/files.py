"""Writing files and folders so that nobody ever sees half of one."""

import os
import shutil
import threading
from contextlib import contextmanager


@contextmanager
def replacing(path, overwrite):
    """A temporary path beside `path`, of the same suffix, which takes its place on success.

    Args:
        path: `pathlib.Path` of a file or a folder.
        overwrite: bool, whether what is there may be replaced.

    Raises:
        FileExistsError: the path exists and `overwrite` is False.
        FileNotFoundError: the folder that it is to lie in does not exist.
    """
    _refuse_existing(path, overwrite)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}")
    writer = f"{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".part-{writer}-{path.name}")
    old = path.with_name(f".old-{writer}-{path.name}")
    try:
        yield temporary
        _refuse_existing(path, overwrite)  # It may have come in the meantime.
        # A file takes the place of a file in one step; folders do not.
        if path.exists() and (path.is_dir() or temporary.is_dir()):
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        for left in (temporary, old):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _refuse_existing(path, overwrite):
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Pass overwrite=True to replace it.")
