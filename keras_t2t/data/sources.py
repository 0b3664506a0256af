"""Labelled images from a TFDS data set, a prepared TFDS folder, an image folder or arrays."""

import logging
import os
from pathlib import Path

from keras_t2t.data.idx import IDX_FILES, read_idx
from keras_t2t.data.source import ArraySource, FileSource, Source
from keras_t2t.image_files import IMAGE_SUFFIXES, is_hidden, sort_files

logger = logging.getLogger("keras_t2t")

SPLITS = ("train", "validation")


def open_source(
    spec: str | os.PathLike | tuple,
    split: str,
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
) -> Source:
    """Opens labelled images.

    Args:
        spec: One of
            - `"tfds:NAME"`, such as `"tfds:imagenet2012"`, `"tfds:cifar10"`: prepared where it is
              not yet;
            - a folder that TFDS prepared, the one that holds `dataset_info.json`;
            - a folder with `train/` and `val/` or `validation/`, which hold a folder for each
              class, with .jpeg, .jpg, .png, .bmp, .gif, .tif, .tiff and .webp files. The class
              folders of `train/`, sorted by name, are the classes of both. Hidden files and folders
              are left out; how many files of other suffixes are, the log tells;
            - a folder with the four gzipped IDX files of MNIST or Fashion-MNIST;
            - a pair `(images, labels)` of this split: uint8 (n, height, width, channels) and
              integers (n,).
        split: `"train"` or `"validation"`; the latter is the `test` split of TFDS data without a
            `validation` split.
        data_dir: With `"tfds:NAME"`, the folder of all TFDS data sets. `None` means TFDS' own.
        manual_dir: With `"tfds:NAME"`, the folder of files that TFDS cannot download, such as
            ImageNet's two tar files.

    Returns:
        A `Source`.

    Raises:
        ValueError: If `spec` or `split` is none of these, or what it names does not fit.
        FileNotFoundError: If a folder does not exist.
    """
    if split not in SPLITS:
        raise ValueError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    named = isinstance(spec, str) and spec.startswith("tfds:")
    if not named and (data_dir is not None or manual_dir is not None):
        raise ValueError('data_dir, manual_dir: expected with "tfds:NAME" only')
    if isinstance(spec, (tuple, list)) and len(spec) == 2:
        return ArraySource(*spec)
    if not isinstance(spec, (str, os.PathLike)):
        raise ValueError(
            'spec: expected "tfds:NAME", a folder or a pair of arrays (images, labels), '
            f"got {type(spec).__name__}"
        )
    folder = Path(spec)
    if not named and not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    if named or (folder / "dataset_info.json").is_file():
        # Here, because importing TensorFlow Datasets takes a second.
        from keras_t2t.data.tfds_sources import open_tfds

        return open_tfds(spec, split, data_dir, manual_dir)
    if all((folder / name).is_file() for name in IDX_FILES[split]):
        images, labels = (read_idx(folder / name) for name in IDX_FILES[split])
        return ArraySource(images[..., None], labels)
    return _folder_source(folder, split)


def _folder_source(folder, split):
    own_folder, train = split_folder(folder, split), split_folder(folder, "train")
    if own_folder is None:
        raise ValueError(
            f"{folder}: expected a prepared TFDS folder, with dataset_info.json, or an image "
            f"folder, with {'train/' if split == 'train' else 'val/ or validation/'}"
        )
    class_names = subfolders(train or own_folder)
    unknown = sorted(set(subfolders(own_folder)) - set(class_names))
    if unknown:
        raise ValueError(
            f"{own_folder}: expected only the classes of {train}, got also {', '.join(unknown)}"
        )
    # In one walk, which takes long where a million files lie on a network.
    images, others = sort_files(own_folder)
    found = {name: [] for name in class_names}
    for path in images:
        name, _, rest = path[len(str(own_folder)) + 1 :].partition(os.sep)
        if rest:
            found[name].append(path)
    empty = [name for name, files in found.items() if not files]
    if empty and split == "train":
        raise ValueError(f"{own_folder / empty[0]}: holds no image ({' '.join(IMAGE_SUFFIXES)})")
    if others:
        told = ", ".join(f"{number} {suffix or 'without one'}" for suffix, number in others.items())
        logger.warning("%s: files of other suffixes are passed over: %s", own_folder, told)
    paths = [path for files in found.values() for path in files]
    labels = [label for label, files in enumerate(found.values()) for _ in files]
    return FileSource(str(own_folder), paths, labels, class_names)


def split_folder(folder: Path, split: str) -> Path | None:
    """The folder of a split's class folders, or `None`."""
    names = ("train",) if split == "train" else ("val", "validation")
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder that are not hidden, sorted."""
    entries = os.scandir(folder)
    return sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))
