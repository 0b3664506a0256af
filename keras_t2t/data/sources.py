"""Labelled images from a TFDS data set, a prepared TFDS folder, an image folder or arrays."""

import gzip
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_t2t.data.decoding import in_a_line
from keras_t2t.data.python_calls import python_call

SPLITS = ("train", "validation")
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp")
VALIDATION_FOLDERS = ("val", "validation")
IDX_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "validation": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
# Encoded images up to this size are held in memory, which makes any order free.
IN_MEMORY_BYTES = 2**31
# Of a stream, whose images lie around it in the order of the files.
SHUFFLE_BUFFER = 10_000
FILES_AT_ONCE = 16
ROUNDS = 24


def open_source(spec, split, data_dir=None, manual_dir=None):
    """Opens labelled images.

    Args:
        spec: One of
            - `"tfds:NAME"`, such as `"tfds:imagenet2012"`, `"tfds:cifar10"`: prepared where it is
              not yet;
            - a folder that TFDS prepared, the one that holds `dataset_info.json`;
            - a folder with `train/` and `val/` or `validation/`, which hold a folder for each
              class, with .jpeg, .jpg, .png, .bmp, .gif and .webp files. The class folders of
              `train/`, sorted by name, are the classes of both;
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
        raise ValueError('data_dir, manual_dir: expected None unless spec is "tfds:NAME"')
    if named:
        return _tfds_source(_named_builder(spec[5:], data_dir, manual_dir), split)
    if isinstance(spec, (tuple, list)) and len(spec) == 2:
        return ArraySource(*spec)
    if not isinstance(spec, (str, os.PathLike)):
        raise ValueError(
            'spec: expected "tfds:NAME", a folder or a pair of arrays (images, labels), '
            f"got {type(spec).__name__}"
        )
    folder = Path(spec)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    if (folder / "dataset_info.json").is_file():
        import tensorflow_datasets as tfds

        return _tfds_source(tfds.builder_from_directory(folder), split)
    if all((folder / name).is_file() for name in IDX_FILES[split]):
        images, labels = (_read_idx(folder / name) for name in IDX_FILES[split])
        return ArraySource(images[..., None], labels)
    return _folder_source(folder, split)


class Source:
    """Labelled images that `training_batches` and `evaluation_batches` read.

    Attributes:
        name: Str, what messages call it.
        class_names: Tuple of a str for each class, or `None` if they have no names.
        num_classes: Int.
        channels: Int, or `None` if that is not known without reading the images.
        skipped: Dict {name: reason} of the images that were skipped so far because they could not
            be decoded.
    """

    def __init__(self, name, size, class_names, num_classes, channels=None):
        if size == 0:
            raise ValueError(f"{name}: holds no images")
        self.name = name
        self.class_names = None if class_names is None else tuple(class_names)
        self.num_classes = num_classes
        self.channels = channels
        self.skipped = {}
        self._size = size

    def __len__(self):
        return self._size


class IndexedSource(Source):
    """A source whose images can be had in any order."""

    def read(self, index):
        """TensorFlow tensors (image, label, name) of a scalar int64 index.

        `image` is a string, an encoded file, or uint8 (height, width, channels).
        """
        raise NotImplementedError


class StreamSource(Source):
    """A source whose images come one after the other."""

    def stream(self, order=None, shard=(0, 1)):
        """A `tf.data.Dataset` of (image, label, name), once through the shard.

        Args:
            order: Pair of int64 scalars that decides the order. `None` means as stored.
            shard: Pair (index, count) of ints; each of `count` shards gives `len(self) // count`
                images of its own, or one more.
        """
        raise NotImplementedError


class ArraySource(IndexedSource):
    """Pixels in memory: `images` uint8 (n, height, width, channels), `labels` integers (n,)."""

    def __init__(self, images, labels, name="arrays", class_names=None):
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 4:
            raise ValueError(
                "images: expected uint8 of shape (n, height, width, channels), "
                f"got {images.dtype} {images.shape}"
            )
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise ValueError(
                f"labels: expected integers of shape {images.shape[:1]}, "
                f"got {labels.dtype} {labels.shape}"
            )
        if labels.size and labels.min() < 0:
            raise ValueError(f"labels: expected none below 0, got {labels.min()}")
        labels = labels.astype("int64")
        classes = len(class_names) if class_names else int(labels.max(initial=-1)) + 1
        super().__init__(name, len(images), class_names, classes, images.shape[3])
        self._images, self._labels = _tensor(images), _tensor(labels)

    def read(self, index):
        label = tf.gather(self._labels, index)
        return self._images[index], label, tf.strings.format(self.name + ", image {}", index)


class FileSource(IndexedSource):
    """Image files and their labels.

    Reading a file may fail, which ends a graph; who is to go on takes `locate`.
    """

    def __init__(self, name, paths, labels, class_names):
        super().__init__(name, len(paths), class_names, len(class_names))
        self._paths, self._labels = _tensor(paths), _tensor(np.asarray(labels, "int64"))

    def read(self, index):
        path, label, name = self.locate(index)
        return tf.io.read_file(path), label, name

    def locate(self, index):
        """As `read`, but for the path in place of the content."""
        path = tf.gather(self._paths, index)
        return path, tf.gather(self._labels, index), path


class EncodedSource(IndexedSource):
    """Encoded images in memory."""

    def __init__(self, name, encoded, labels, class_names, num_classes, channels):
        super().__init__(name, len(encoded), class_names, num_classes, channels)
        self._encoded, self._labels = encoded, labels

    def read(self, index):
        name = tf.strings.format(self.name + ", example {}", index)
        return tf.gather(self._encoded, index), tf.gather(self._labels, index), name


class DataSource(IndexedSource):
    """One split of a TFDS data set in ArrayRecord files."""

    def __init__(self, name, builder, split, keys, class_names, num_classes, channels):
        import tensorflow_datasets as tfds

        size = builder.info.splits[split].num_examples
        super().__init__(name, size, class_names, num_classes, channels)
        decoders = {keys[0]: tfds.decode.SkipDecoding()}
        self._records = builder.as_data_source(split, decoders=decoders)
        self._keys = keys

    def read(self, index):
        def example(index):
            found = self._records[int(index)]
            return found[self._keys[0]], np.int64(found[self._keys[1]])

        image, label = python_call(example, [index], (tf.string, tf.int64), stateful=False)
        name = tf.strings.format(self.name + ", example {}", index)
        return tf.ensure_shape(image, ()), tf.ensure_shape(label, ()), name


class RecordSource(StreamSource):
    """The TFRecord files of one split of a TFDS data set."""

    def __init__(self, name, builder, split, keys, class_names, num_classes, channels):
        size = builder.info.splits[split].num_examples
        super().__init__(name, size, class_names, num_classes, channels)
        self._builder, self._split, self._keys = builder, split, keys

    def stream(self, order=None, shard=(0, 1)):
        index, count = shard
        pieces = self._pieces(index, count)
        files = tf.data.Dataset.from_tensor_slices(pieces)
        if order is None:
            return files.flat_map(self._records).map(self._example)
        number = len(pieces[0])
        files = tf.data.Dataset.range(number).map(
            lambda i: tuple(tf.gather(piece, shuffled_index(i, order, number)) for piece in pieces)
        )
        records = files.interleave(
            self._records, cycle_length=FILES_AT_ONCE, num_parallel_calls=FILES_AT_ONCE
        )
        # Still encoded, and so a tenth of the size.
        records = _shuffled(records, order)
        return records.map(self._example, num_parallel_calls=tf.data.AUTOTUNE)

    def _pieces(self, index, count):
        """(file names, records to skip, records to take) of a shard of the examples."""
        size = len(self)
        start, stop = size * index // count, size * (index + 1) // count
        instructions = self._builder.info.splits[f"{self._split}[{start}:{stop}]"].file_instructions
        rows = [(str(piece.filename), piece.skip, piece.take) for piece in instructions]
        names, skips, takes = zip(*rows, strict=True)
        return list(names), np.array(skips, "int64"), np.array(takes, "int64")

    def _records(self, file, skip, take):
        records = tf.data.TFRecordDataset(file, buffer_size=2**20).enumerate()
        return records.skip(skip).take(take).map(lambda number, record: (file, number, record))

    def _example(self, file, number, record):
        image, label = _deserialized(self._builder, self._keys, record)
        return image, label, tf.strings.format("{}, record {}", (file, number))


def _tfds_source(builder, split):
    splits = builder.info.splits
    if split not in splits:
        if split == "train" or "test" not in splits:
            raise ValueError(
                f"{builder.info.full_name}: expected a {split!r} split, got {', '.join(splits)}"
            )
        split = "test"
    name = f"{builder.info.full_name} {split}"
    keys = _image_and_label(builder)
    image, label = (builder.info.features[key] for key in keys)
    class_names = _names(label)
    described = (class_names, label.num_classes, image.shape[-1])
    if builder.info.file_format.value == "array_record":
        return DataSource(name, builder, split, keys, *described)
    if splits[split].num_bytes > IN_MEMORY_BYTES:
        return RecordSource(name, builder, split, keys, *described)
    encoded, labels = _read_all(builder, split, keys)
    if None in image.shape or len(labels) * np.prod(image.shape) > IN_MEMORY_BYTES:
        return EncodedSource(name, encoded, labels, *described)
    # All of one size, and so small: decoded once.
    images = tf.data.Dataset.from_tensor_slices(encoded)
    images = images.map(lambda image: tf.io.decode_image(image, dtype=tf.uint8), -1)
    pixels = np.stack(list(images.as_numpy_iterator()))
    return ArraySource(pixels, labels.numpy(), name, class_names)


def _names(label):
    """TFDS makes names of numbers up where a data set has none."""
    numbers = [str(number) for number in range(label.num_classes)]
    return None if label.names == numbers else label.names


def _named_builder(name, data_dir, manual_dir):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(f"tfds:{name}: TFDS knows no data set of this name") from error
    if not builder.data_path.exists():
        config = tfds.download.DownloadConfig(manual_dir=manual_dir)
        try:
            builder.download_and_prepare(download_config=config)
        except (AssertionError, tf.errors.NotFoundError) as error:
            # So TFDS says that there are no files which it cannot download.
            reason = " ".join(str(error).split())
            message = f"manual_dir: expected the files of {name}, got {manual_dir}: {reason}"
            raise ValueError(message) from error
    return builder


def _image_and_label(builder):
    """The keys of the image and of the label."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    keys = builder.info.supervised_keys or ()
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    if len(keys) == 2 and all(
        isinstance(features[key], kind) for key, kind in zip(keys, kinds, strict=True)
    ):
        return keys
    found = [[key for key, value in features.items() if isinstance(value, kind)] for kind in kinds]
    if [len(names) for names in found] != [1, 1]:
        raise ValueError(
            f"{builder.info.full_name}: expected one image and one class label, got {features}"
        )
    return found[0][0], found[1][0]


def _deserialized(builder, keys, record):
    """(encoded image, label) of a serialised example; other features are not touched."""
    import tensorflow_datasets as tfds

    image, label = keys
    features = tfds.features.FeaturesDict({key: builder.info.features[key] for key in keys})
    decoders = {image: tfds.decode.SkipDecoding()}
    example = features.deserialize_example(record, decoders=decoders)
    return example[image], example[label]


def _read_all(builder, split, keys):
    batches = []
    with tf.device("CPU"):
        for path in map(str, builder.info.splits[split].filepaths):
            records = tf.data.TFRecordDataset(path)
            examples = records.map(lambda record: _deserialized(builder, keys, record))
            try:
                batches += examples.batch(4096)
            except tf.errors.OpError as error:
                raise ValueError(f"{path}: cannot be read ({in_a_line(error)})") from error
        return tuple(tf.concat(parts, 0) for parts in zip(*batches, strict=True))


def _folder_source(folder, split):
    own_folder = split_folder(folder, split)
    if own_folder is None:
        raise ValueError(
            f"{folder}: expected a prepared TFDS folder, with dataset_info.json, or an image "
            f"folder, with {'train/' if split == 'train' else 'val/ or validation/'}"
        )
    own = subfolders(own_folder)
    train = split_folder(folder, "train")
    class_names = own if train is None else subfolders(train)
    unknown = sorted(set(own) - set(class_names))
    if unknown:
        raise ValueError(
            f"{own_folder}: expected only the classes of {train}, got also {', '.join(unknown)}"
        )
    paths, labels = [], []
    for label, class_name in enumerate(class_names):
        found = image_files(own_folder / class_name)
        paths += found
        labels += [label] * len(found)
    return FileSource(str(own_folder), paths, labels, class_names)


def split_folder(folder, split):
    """The folder of a split's class folders, or `None`."""
    names = ("train",) if split == "train" else VALIDATION_FOLDERS
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def subfolders(folder):
    """The names of the folders in a folder, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def image_files(folder):
    """The paths of all image files below a folder, sorted, as strings."""
    found = [
        os.path.join(where, file)
        for where, _, files in os.walk(folder, followlinks=True)
        for file in files
        if file.lower().endswith(SUFFIXES)
    ]
    return sorted(found)


def _read_idx(path):
    """The array of a gzipped IDX file of unsigned bytes."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: is not a complete gzip file ({error})") from error
    dimensions = data[3] if data[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(data, ">u4", dimensions, 4) if dimensions else ()
    if not dimensions or len(data) != 4 + 4 * dimensions + np.prod(shape, dtype="int64"):
        raise ValueError(f"{path}: is not an IDX file of unsigned bytes")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _tensor(values):
    """A tensor that graphs capture; as a constant it would be copied into each, up to 2 GB."""
    with tf.device("CPU"):
        return tf.convert_to_tensor(values)


def shuffled_index(index, order, size):
    """Where a permutation of `size` numbers that `order`, two integers, decides puts an index."""
    return tf.raw_ops.RandomIndexShuffle(
        index=tf.cast(index, tf.int64),
        seed=tf.stack([*order, tf.zeros((), tf.int64)]),
        max_index=tf.constant(size - 1, tf.int64),
        # The four of `tf.random.experimental.index_shuffle` leave traces of the old order.
        rounds=ROUNDS,
    )


def _shuffled(records, order):
    """`records.shuffle`, whose order is also one of TensorFlow's global seed, without that."""
    spec = records.element_spec
    shuffled = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(records),
        buffer_size=SHUFFLE_BUFFER,
        seed=order[0],
        # Two zeros would mean a random order.
        seed2=order[1] + 1,
        output_types=[part.dtype for part in spec],
        output_shapes=[part.shape for part in spec],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(shuffled, spec)
