"""Labelled images that TensorFlow Datasets (TFDS) prepared."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_t2t.data.decoding import BAD_LABEL, in_a_line
from keras_t2t.data.python_calls import python_call
from keras_t2t.data.source import ArraySource, IndexedSource, Source, StreamSource, shuffled_index

# Encoded images up to this size are held in memory, which makes any order free.
IN_MEMORY_BYTES = 2**31
# Of a stream, whose images lie around it in the order of the files.
SHUFFLE_BUFFER = 10_000
FILES_AT_ONCE = 16
# More than any data set has; TFDS makes a list of them before it has read a label.
MOST_CLASSES = 2**18
_OWN_CLASSES = "tensorflow_datasets.core."
# Of a feature's class, in today's and in earlier files.
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")


def open_tfds(spec, split: str, data_dir=None, manual_dir=None) -> Source:
    """`open_source` of `"tfds:NAME"` or of a folder that TFDS prepared."""
    if str(spec).startswith("tfds:"):
        builder = _named_builder(spec.removeprefix("tfds:"), data_dir, manual_dir)
    else:
        builder = _prepared_builder(Path(spec))
    records = Records(builder, split)
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        return DataSource(records)
    if records.split.num_bytes > IN_MEMORY_BYTES:
        return RecordSource(records)
    encoded, labels = records.read_all()
    if None in records.image.shape or len(labels) * np.prod(records.image.shape) > IN_MEMORY_BYTES:
        return EncodedSource(records, encoded, labels)
    # All of one size, and so small: decoded once.
    images = tf.data.Dataset.from_tensor_slices(encoded)
    images = images.map(lambda image: tf.io.decode_image(image, dtype=tf.uint8), -1)
    pixels = np.stack(list(images.as_numpy_iterator()))
    return ArraySource(pixels, labels.numpy(), records.name, records.class_names)


def _prepared_builder(folder):
    _check_features(folder)
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # of whatever TFDS and protobuf make of the two JSON files
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{folder}: cannot be read as a folder that TFDS prepared ({reason})"
        ) from error


def _check_features(folder):
    """Raises a ValueError for a `features.json` that names classes which are not TFDS' own.

    TFDS would import them from wherever the file says.
    """
    for path in folder.rglob("features.json"):
        try:
            objects = list(_objects(json.loads(path.read_bytes())))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: expected JSON that TFDS wrote ({error})") from None
        for value in objects:
            for name in (value.get(key) for key in _CLASS_KEYS):
                # TFDS imports nothing for a name without a dot.
                if isinstance(name, str) and "." in name and not name.startswith(_OWN_CLASSES):
                    raise ValueError(
                        f"{path}: expected only features of TFDS itself, got {name!r}, which was "
                        "not imported"
                    )


def _objects(value):
    """All JSON objects in a value, also in JSON texts, which earlier versions of TFDS nest."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _objects(part)


def _named_builder(name, data_dir, manual_dir):
    _check_features(Path(data_dir or tfds.core.constants.DATA_DIR) / name.split("/")[0])
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


class Records:
    """The records of one split, and which of their features are the image and its label.

    Attributes:
        info: `tfds.core.DatasetInfo`.
        name: Str, of the data set and the split.
        split: `tfds.core.SplitInfo`.
        keys: Pair of str, the names of the two features.
        image, label: The features themselves.
        class_names: List of str, or `None`.
        decoders: What leaves images encoded.
    """

    def __init__(self, builder, split: str):
        self.builder, self.info = builder, builder.info
        splits = self.info.splits
        if split == "validation" and split not in splits and "test" in splits:
            split = "test"
        if split not in splits:
            raise ValueError(
                f"{self.info.full_name}: expected a {split!r} split, got {', '.join(splits)}"
            )
        self.split, self.name = splits[split], f"{self.info.full_name} {split}"
        for path in self.split.filepaths:
            if path.parent != builder.data_path:
                raise ValueError(
                    f"{builder.data_path}: its dataset_info.json names a file elsewhere, {path}"
                )
        self.keys = _image_and_label(self.info)
        self.image, self.label = (self.info.features[key] for key in self.keys)
        if self.label.num_classes > MOST_CLASSES:
            raise ValueError(
                f"{self.info.full_name}: expected at most {MOST_CLASSES} classes, "
                f"got {self.label.num_classes}"
            )
        # TFDS makes names of numbers up where a data set has none.
        numbers = [str(number) for number in range(self.label.num_classes)]
        self.class_names = None if self.label.names == numbers else self.label.names
        self.decoders = {self.keys[0]: tfds.decode.SkipDecoding()}

    def described(self) -> tuple:
        """What a `Source` is made of."""
        size, classes = self.split.num_examples, self.label.num_classes
        return self.name, size, self.class_names, classes, self.image.shape[-1]

    def example(self, record) -> tuple:
        """(encoded image, label) of a serialised example; other features are not touched."""
        features = tfds.features.FeaturesDict({key: self.info.features[key] for key in self.keys})
        example: Any = features.deserialize_example(record, decoders=self.decoders)
        image, label = (example[key] for key in self.keys)
        classes = self.label.num_classes
        told = f"{BAD_LABEL}{self.name}: expected labels below {classes}"
        with tf.control_dependencies([tf.debugging.Assert(label < classes, [told])]):
            return image, tf.identity(label)

    def read_all(self) -> tuple:
        """(encoded images, labels) of all examples.

        Raises:
            ValueError: If a file is damaged.
        """
        batches = []
        with tf.device("CPU"):
            for path in map(str, self.split.filepaths):
                examples = tf.data.TFRecordDataset(path).map(self.example)
                try:
                    batches += examples.batch(4096)
                except tf.errors.OpError as error:
                    raise ValueError(f"{path}: cannot be read ({in_a_line(error)})") from error
            return tuple(tf.concat(parts, 0) for parts in zip(*batches, strict=True))


class EncodedSource(IndexedSource):
    """Encoded images in memory."""

    def __init__(self, records: Records, encoded, labels):
        super().__init__(*records.described())
        self._encoded, self._labels = encoded, labels

    def read(self, index):
        name = tf.strings.format(self.name + ", example {}", index)
        return tf.gather(self._encoded, index), tf.gather(self._labels, index), name


class DataSource(IndexedSource):
    """One split of a TFDS data set in ArrayRecord files."""

    def __init__(self, records: Records):
        super().__init__(*records.described())
        split, self._keys = records.split.name, records.keys
        self._records = records.builder.as_data_source(split, decoders=records.decoders)

    def read(self, index):
        def example(index):
            found = self._records[int(index)]
            return found[self._keys[0]], np.int64(found[self._keys[1]])

        image, label = python_call(example, [index], (tf.string, tf.int64), stateful=False)
        name = tf.strings.format(self.name + ", example {}", index)
        return tf.ensure_shape(image, ()), tf.ensure_shape(label, ()), name


class RecordSource(StreamSource):
    """The TFRecord files of one split of a TFDS data set."""

    def __init__(self, records: Records):
        super().__init__(*records.described())
        self._records = records

    def stream(self, order=None, shard=(0, 1)):
        pieces = self._pieces(*shard)
        if order is None:
            files = tf.data.Dataset.from_tensor_slices(pieces)
            return files.flat_map(_read_piece).map(self._example)
        number = len(pieces[0])
        files = tf.data.Dataset.range(number).map(
            lambda i: tuple(tf.gather(piece, shuffled_index(i, order, number)) for piece in pieces)
        )
        records = files.interleave(
            _read_piece, cycle_length=FILES_AT_ONCE, num_parallel_calls=FILES_AT_ONCE
        )
        # Still encoded, and so a tenth of the size.
        return _shuffled(records, order).map(self._example, num_parallel_calls=tf.data.AUTOTUNE)

    def _pieces(self, index, count):
        """(file names, records to skip, records to take) of a shard of the examples."""
        start, stop = len(self) * index // count, len(self) * (index + 1) // count
        split = f"{self._records.split.name}[{start}:{stop}]"
        pieces = self._records.info.splits[split].file_instructions
        return (
            [str(piece.filename) for piece in pieces],
            np.array([piece.skip for piece in pieces], "int64"),
            np.array([piece.take for piece in pieces], "int64"),
        )

    def _example(self, file, number, record):
        image, label = self._records.example(record)
        return image, label, tf.strings.format("{}, record {}", (file, number))


def _read_piece(*piece):
    file, skip, take = piece
    records = tf.data.TFRecordDataset(file, buffer_size=2**20).enumerate()
    return records.skip(skip).take(take).map(lambda number, record: (file, number, record))


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


def _image_and_label(info):
    """The keys of the image and of the label."""
    features, kinds = info.features, (tfds.features.Image, tfds.features.ClassLabel)
    for keys in (info.supervised_keys or (), features):
        found = [[key for key in keys if isinstance(features[key], kind)] for kind in kinds]
        if [len(names) for names in found] == [1, 1]:
            return found[0][0], found[1][0]
    raise ValueError(f"{info.full_name}: expected one image and one class label, got {features}")
