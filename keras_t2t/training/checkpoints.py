"""Checkpoints: all arrays of a run in one file, written whole or not at all."""

import contextlib
import json
import os
import warnings
from pathlib import Path

import numpy as np

from keras_t2t.limits import refuse_zip_bomb
from keras_t2t.seal import seal, verify_archive

_INFO = "info.json"


class Checkpoints:
    """The checkpoints in a folder, named by their step.

    A file is a NumPy archive without pickled objects: reading one executes nothing. It ends in a
    checksum of the whole. It is written under another name, forced to the disk and then renamed, so
    a process or machine that dies while it writes leaves the checkpoints before it as they were.

    Args:
        folder: Path, created when the first checkpoint is saved.
        keep: Int, number of checkpoints to keep. Defaults to 3.
    """

    def __init__(self, folder, keep=3):
        self.folder = Path(folder)
        self.keep = keep

    def paths(self):
        """Paths of the checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*.npz"))

    def save(self, step, arrays, info):
        """Writes a checkpoint and removes those that are too many.

        Args:
            step: Int, number of steps that the arrays have seen.
            arrays: Dictionary from names to NumPy arrays.
            info: Anything JSON can hold.

        Returns:
            Path of the checkpoint.

        Raises:
            OSError: If it cannot be written. The message names the checkpoint that is left.
        """
        path = self.folder / f"step-{step:010d}.npz"
        temporary = path.with_suffix(".tmp")
        text = np.frombuffer(json.dumps(info).encode(), np.uint8)
        try:
            # Not its parents: a run whose folder was removed ends here.
            self.folder.mkdir(exist_ok=True)
            with open(temporary, "w+b") as file:
                np.savez(file, allow_pickle=False, **{_INFO: text}, **arrays)
                seal(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(self.folder)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            *_, left = [None, *self.paths()]
            before = f"The one before is intact: {left}" if left else "There is none before it."
            raise OSError(
                f"{path}: the checkpoint could not be written ({error.strerror or error}). {before}"
            ) from error
        for old in self.paths()[: -self.keep]:
            old.unlink()
        return path

    def newest(self):
        """Reads the newest checkpoint that is whole.

        A damaged one is renamed to `....damaged`, with a warning, and the one before is taken.

        Returns:
            Tuple `(path, arrays, info)`, or `None` if there is no checkpoint.

        Raises:
            ValueError: If there are checkpoints but all are damaged.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return path, *read(path)
            except PermissionError:  # tells nothing of the file
                raise
            except (OSError, ValueError) as error:
                with contextlib.suppress(FileNotFoundError):  # Another host was faster.
                    path.rename(path.with_suffix(".npz.damaged"))
                warnings.warn(
                    f"{path} is damaged ({error}) and skipped; it is now called {path.name}"
                    ".damaged.",
                    stacklevel=2,
                )
        if paths:
            raise ValueError(
                f"{self.folder}: all {len(paths)} checkpoints are damaged. Remove the folder to "
                "start from the beginning."
            )
        return None

    def clear_unfinished(self):
        """Removes what processes left that died while they wrote."""
        for path in self.folder.glob("step-*.tmp"):
            path.unlink()


def read(path):
    """Returns the arrays, by name, and the info of a checkpoint file.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is damaged.
    """
    verify_archive(path)
    refuse_zip_bomb(path)
    try:
        # The archive's checksum of each array is compared on reading.
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return arrays, json.loads(arrays.pop(_INFO).tobytes())
    except Exception as error:  # One flipped bit can make the readers raise almost anything.
        raise ValueError(" ".join(f"{error}".split()) or type(error).__name__) from error


def _sync_folder(folder):
    if os.name == "posix":  # Elsewhere folders cannot be opened, and renaming is enough.
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
