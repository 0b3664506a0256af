"""Labelled images, as `training_batches` and `evaluation_batches` read them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

SHUFFLE_ROUNDS = 24


@dataclasses.dataclass(eq=False)
class Source:
    """Labelled images that `training_batches` and `evaluation_batches` read.

    Attributes:
        name: Str, what messages call it.
        size: Int, images in it.
        class_names: Tuple of a str for each class, or `None` if they have no names.
        num_classes: Int.
        channels: Int, or `None` if that is not known without reading the images.
        skipped: Dict {name: reason} of the images that were skipped so far because they could not
            be decoded.
    """

    name: str
    size: int
    class_names: Sequence[str] | None
    num_classes: int
    channels: int | None = None
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.size == 0:
            raise ValueError(f"{self.name}: holds no images")
        self.class_names = self.class_names and tuple(self.class_names)

    def __len__(self):
        return self.size


class IndexedSource(Source):
    """A source whose images can be read in any order."""

    def read(self, index) -> tuple:
        """TensorFlow tensors (image, label, name) of a scalar int64 index.

        `image` is a string, an encoded file, or uint8 (height, width, channels).
        """
        raise NotImplementedError


class StreamSource(Source):
    """A source whose images come one after the other."""

    def stream(self, order=None, shard: tuple[int, int] = (0, 1)) -> tf.data.Dataset:
        """A `tf.data.Dataset` of (image, label, name), once through the shard.

        Args:
            order: Pair of int64 scalars that decides the order. `None` means as stored.
            shard: Pair (index, count) of ints; each of `count` shards gives `len(self) // count`
                images of its own, or one more.
        """
        raise NotImplementedError


class ArraySource(IndexedSource):
    """Pixels in memory: `images` uint8 (n, height, width, channels), `labels` integers (n,)."""

    def __init__(self, images, labels, name: str = "arrays", class_names=None):
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(
                "images: expected uint8 of shape (n, height, width, channels), "
                f"got {images.dtype} {images.shape}"
            )
        if 0 in images.shape[1:]:
            raise ValueError(f"images: expected at least one pixel each, got {images.shape}")
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise ValueError(
                f"labels: expected integers of shape {images.shape[:1]}, "
                f"got {labels.dtype} {labels.shape}"
            )
        if labels.size and labels.min() < 0:
            raise ValueError(f"labels: expected none below 0, got {labels.min()}")
        labels = labels.astype("int64")
        counted = int(labels.max(initial=-1)) + 1
        classes = len(class_names) if class_names else counted
        if counted > classes:
            raise ValueError(f"{name}: expected labels below {classes}, got {counted - 1}")
        super().__init__(name, len(images), class_names, classes, images.shape[3])
        self._images, self._labels = _captured(images), _captured(labels)

    def read(self, index):
        label = tf.gather(self._labels, index)
        return self._images[index], label, tf.strings.format(self.name + ", image {}", index)


class FileSource(IndexedSource):
    """Image files and their labels.

    Reading a file may fail, which ends a graph: whoever is to go on then calls `locate`.
    """

    def __init__(self, name: str, paths: Sequence[str], labels, class_names: Sequence[str]):
        super().__init__(name, len(paths), class_names, len(class_names))
        self._paths, self._labels = _captured(paths), _captured(np.asarray(labels, "int64"))

    def read(self, index):
        path, label, name = self.locate(index)
        return tf.io.read_file(path), label, name

    def locate(self, index) -> tuple:
        """As `read`, but with the path in place of the content."""
        path = tf.gather(self._paths, index)
        return path, tf.gather(self._labels, index), path


def shuffled_index(index, order, size: int):
    """Where a permutation of `size` numbers puts an index; two integers, `order`, decide it."""
    return tf.raw_ops.RandomIndexShuffle(
        index=tf.cast(index, tf.int64),
        seed=tf.stack([*order, tf.zeros((), tf.int64)]),
        max_index=tf.constant(size - 1, tf.int64),
        # The four of `tf.random.experimental.index_shuffle` leave traces of the old order.
        rounds=SHUFFLE_ROUNDS,
    )


def _captured(values):
    """A tensor that graphs capture; as a constant it would be copied into each, up to 2 GB."""
    with tf.device("CPU"):
        return tf.convert_to_tensor(values)
