"""Finds what is wrong with an image folder before hours are spent on it."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from keras_t2t.data import decoding
from keras_t2t.data.python_calls import python_call
from keras_t2t.data.sources import SPLITS, split_folder, subfolders
from keras_t2t.image_files import IMAGE_SUFFIXES, files_below


def check_data(folder: str | os.PathLike) -> tuple[int, Iterator[str]]:
    """Looks for unreadable files, empty classes and classes that only one split has.

    Every file is decoded twice, by TensorFlow as in training and by Pillow as in evaluation.

    Args:
        folder: An image folder, as `open_source` takes it.

    Returns:
        (images, problems): the number of image files, and an iterator of strings, one for each
        problem, which are found while it is read.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it holds neither `train/` nor `val/` nor `validation/`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    splits = [found for name in SPLITS if (found := split_folder(folder, name))]
    if not splits:
        raise ValueError(f"{folder}: expected a folder with train/ and val/ or validation/")
    files = {
        split: {name: files_below(split / name) for name in subfolders(split)} for split in splits
    }
    paths = [path for classes in files.values() for names in classes.values() for path in names]
    return len(paths), itertools.chain(_misplaced(folder, files), _undecodable(paths))


def _misplaced(folder, files):
    """What the folders lack, of `files` {split: {class: paths}}."""
    if len(files) < len(SPLITS):
        has_train = split_folder(folder, "train")
        yield f"{folder}: holds no {'val/ or validation/' if has_train else 'train/'}"
    for split, classes in files.items():
        if not classes:
            yield f"{split}: holds no class folders"
        for name, found in classes.items():
            if not found:
                yield f"{split / name}: holds no image ({' '.join(IMAGE_SUFFIXES)})"
    for here, there in itertools.permutations(files, 2):
        for name in sorted(set(files[here]) - set(files[there])):
            yield f"{there / name}: missing, but a class of {here}"


def _undecodable(paths):
    def check(path):
        def decoded_shape(place):
            return tf.shape(decoding.decode(tf.io.read_file(path), 3))

        _, good = decoding.attempt_all(decoded_shape, 1, (3,), tf.int32)
        return path, python_call(reason, [path, good[0]], tf.string)

    def reason(path, decoded):
        return decoding.reason(os.fsdecode(path), decoded).encode()

    checked = tf.data.Dataset.from_tensor_slices(tf.constant(paths, tf.string))
    checked = checked.map(check, num_parallel_calls=tf.data.AUTOTUNE)
    for path, problem in checked.prefetch(64).as_numpy_iterator():
        if problem:
            yield f"{path.decode(errors='replace')}: {problem.decode()}"
