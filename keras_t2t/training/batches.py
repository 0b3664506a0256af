"""The data of a training, as batches."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from keras_t2t.data.pipeline import evaluation_batches, training_batches
from keras_t2t.data.sources import Source, open_source
from keras_t2t.training.distribution import Devices
from keras_t2t.training.options import Options
from keras_t2t.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Batches:
    """What a model is trained and evaluated on.

    Attributes:
        training: Function from a step, an int, to a dataset of the batches from this step on,
            without end. The batch of a step must always be the same one.
        evaluation: Dataset of (images, one-hot labels, weights).
        batch_size: Images per step, over all devices and hosts.
        images: Number of images to train on.
        class_names: Name of each class.
        skipped: The reason for each image that could not be read so far, by its name.
    """

    training: Callable[[int], tf.data.Dataset]
    evaluation: tf.data.Dataset
    batch_size: int
    images: int
    class_names: list[str]
    skipped: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> int:
        """What remains of an epoch's images is dropped."""
        return self.images // self.batch_size


def open_batches(recipe: Recipe, options: Options, devices: Devices) -> Batches:
    """Opens the data of a training.

    Raises:
        ValueError: If the data are of different classes in training and validation, or too few for
            a batch; or as `open_source`.
        OSError: If the data cannot be read.
    """
    training, validation = (
        open_source(
            options.data[split] if isinstance(options.data, dict) else options.data,
            split,
            options.data_dir,
            options.manual_dir,
        )
        for split in ("train", "validation")
    )
    if training.num_classes != validation.num_classes:
        raise ValueError(
            f"data: {training.num_classes} classes to train on, but {validation.num_classes} in "
            "validation"
        )
    if recipe.batch_size > len(training):
        raise ValueError(
            f"batch_size: expected at most the {len(training)} images of the data, got "
            f"{recipe.batch_size}"
        )

    batches = functools.partial(
        training_batches,
        training,
        recipe.augmentation,
        recipe.batch_size,
        recipe.seed,
        preprocessing=recipe.preprocessing,
        shard=(devices.host, devices.hosts),
        devices=devices.count,
        bad_images=options.bad_images,
    )
    return Batches(
        batches,
        _evaluation(validation, recipe, options, devices),
        recipe.batch_size,
        len(training),
        list(training.class_names or map(str, range(training.num_classes))),
        collections.ChainMap(validation.skipped, training.skipped),
    )


def _evaluation(source: Source, recipe: Recipe, options: Options, devices: Devices) -> Any:
    """Batches (images, one-hot labels, weights), all of one size: padding weighs nothing.

    Another size would be compiled anew, and could not be split evenly over devices. All hosts
    evaluate on all images, each on its part of every batch.
    """
    size = recipe.batch_size
    own = size // devices.hosts
    count = -(-len(source) // size)

    def pad(images, labels):
        missing: Any = size - tf.shape(images)[0]
        weights = tf.pad(tf.ones(tf.shape(labels), tf.float32), [[0, missing]])
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        labels = tf.one_hot(tf.pad(labels, [[0, missing]]), source.num_classes)
        parts = [part[devices.host * own :][:own] for part in (images, labels, weights)]
        return tuple(tf.ensure_shape(part, [own, *part.shape[1:]]) for part in parts)

    batches = evaluation_batches(source, recipe.preprocessing, size, bad_images=options.bad_images)
    # Where images are skipped there may be fewer batches, and Keras would warn that they ended.
    specs: Any = batches.element_spec
    none = tuple(tf.zeros((0, *spec.shape[1:]), spec.dtype) for spec in specs)
    batches = batches.concatenate(tf.data.Dataset.from_tensors(none).repeat())
    batches = batches.take(count).map(pad).prefetch(tf.data.AUTOTUNE)
    return batches.apply(tf.data.experimental.assert_cardinality(count))
