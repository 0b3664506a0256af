"""Batches for training and evaluation: `tf.data`, whatever the Keras backend."""

import functools
import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_t2t.data import decoding
from keras_t2t.data.augment import Augmentation
from keras_t2t.data.cropping import padded_crop, random_box, random_flip, resize
from keras_t2t.data.erasing import random_erasing
from keras_t2t.data.mixing import mix
from keras_t2t.data.python_calls import python_call
from keras_t2t.data.randaugment import rand_augment
from keras_t2t.data.source import FileSource, IndexedSource, Source, StreamSource, shuffled_index
from keras_t2t.preprocessing import Preprocessing

BAD_IMAGES = ("error", "skip")
GROUP = 8
fold_in: Any = tf.random.fold_in  # TensorFlow's annotation knows no tensors


def training_batches(
    source: Source,
    augmentation: Augmentation,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    *,
    preprocessing: Preprocessing,
    shard: tuple[int, int] = (0, 1),
    devices: int = 1,
    bad_images: str = "error",
) -> tf.data.Dataset:
    """Endless augmented batches, a pure function of seed, epoch and step.

    An epoch is `len(source) // batch_size` steps; what remains of its order is dropped. Within an
    epoch no image comes twice. The order is a new permutation in every epoch, and all random draws
    follow from the seed, the epoch and the place in the epoch, so that starting at a later step
    gives the very batches that an uninterrupted run would see from there. A stream, which TFDS
    data above 2 GB are, is shuffled by file and in a buffer of 10,000 images; starting within an
    epoch reads on to the place.

    Args:
        source: A `Source`.
        augmentation: An `Augmentation`.
        batch_size: Int, images of a step over all hosts and devices.
        seed: Int, of order and augmentation.
        start_step: Int, the step of the first batch, counted from the start of the training.
        preprocessing: A `Preprocessing`: the size, mean and std of what the model takes.
        shard: Pair (index, count): this host's part where each step's images are split over
            several hosts. The parts of all hosts, one behind the other, are the step's batch.
        devices: Int, into how many parts this host's part is split again, as `MirroredStrategy`
            does. Each gets its own choice of Mixup or CutMix and its own lambda, as published.
        bad_images: `"error"` or `"skip"`: an image that cannot be read or decoded raises an error
            that names it (see `naming_bad_images`), or is noted in `source.skipped` and replaced by
            the next good one of its batch.

    Returns:
        A `tf.data.Dataset` of (images, labels): float32 (batch, height, width, channels),
        normalised, and float32 (batch, classes), smoothed and mixed; `batch` is
        `batch_size // count`.

    Raises:
        ValueError: If the batch size is above the number of images or cannot be split evenly, or
            the model takes another number of channels than the images can have.
    """
    index, count = shard
    if not 0 <= index < count:
        raise ValueError(f"shard: expected (index, count) with 0 <= index < count, got {shard}")
    if batch_size < 1 or batch_size % (count * devices):
        raise ValueError(
            f"batch_size: expected a multiple of {count} host(s) x {devices} device(s), "
            f"got {batch_size}"
        )
    steps = len(source) // batch_size
    if steps == 0:
        raise ValueError(
            f"batch_size: expected at most the {len(source)} images of {source.name}, "
            f"got {batch_size}"
        )
    _check(source, preprocessing, bad_images)
    own, skip = batch_size // count, bad_images == "skip"
    base = tf.constant(seed, tf.int64)

    # A few images at a time, see `attempt_all`.
    group = max(number for number in range(1, GROUP + 1) if own % number == 0)

    def read_files(epochs, positions, paths, labels, names):
        # A file that cannot be read becomes one without content, which cannot be decoded.
        images, _ = decoding.attempt_all(
            lambda place: tf.io.read_file(paths[place]), group, (), tf.string
        )
        return epochs, positions, images, labels, names

    # Nothing is for AutoGraph to convert, which would take longer than building the graph.
    @tf.autograph.experimental.do_not_convert
    def prepare(epochs, positions, images, labels, names):
        def prepared(place):
            seed = fold_in(tf.stack([base, epochs[place]]), positions[place])
            return augmented(images[place], seed, augmentation, preprocessing)

        if images.dtype == tf.string:
            pixels, good = decoding.attempt_all(prepared, group, _size(preprocessing), tf.float32)
            good = _reported(good, images, names, source, skip)
        else:
            pixels = tf.map_fn(prepared, tf.range(group), fn_output_signature=tf.float32)
            good = tf.ones((group,), tf.bool)
        return epochs, positions, pixels, labels, good

    def finish(*groups):
        epochs, positions, images, labels, good = (
            tf.reshape(part, (own, *part.shape[2:])) for part in groups
        )
        if skip:
            images, labels = _replaced(images, labels, good)
        size = own // devices
        batch_seed = fold_in(tf.stack([base, epochs[0]]), tf.constant(-1, tf.int64))
        mixed = []
        for part in (slice(start, start + size) for start in range(0, own, size)):
            part_seed = fold_in(batch_seed, positions[part.start] // size)
            mixed.append(
                mix(images[part], labels[part], source.num_classes, part_seed, augmentation)
            )
        return tuple(tf.concat(parts, 0) for parts in zip(*mixed, strict=True))

    options = tf.data.Options()
    # Images are worked on side by side; threads within one operation would only add switching.
    options.threading.max_intra_op_parallelism = 1
    groups = _in_random_order(source, base, start_step, steps, batch_size, shard)
    groups = groups.batch(group, drop_remainder=True)
    if isinstance(source, FileSource):
        groups = groups.map(read_files, num_parallel_calls=tf.data.AUTOTUNE)
    return (
        groups.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(own // group, drop_remainder=True)
        .map(finish, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
        .with_options(options)
    )


def evaluation_batches(
    source: Source,
    preprocessing: Preprocessing,
    batch_size: int,
    *,
    shard: tuple[int, int] = (0, 1),
    bad_images: str = "error",
) -> tf.data.Dataset:
    """Batches in the source's order, prepared as `preprocessing` does; the last may be smaller.

    Args:
        source: A `Source`.
        preprocessing: A `Preprocessing`.
        batch_size: Int.
        shard: Pair (index, count): of several hosts, this one's share of the images.
        bad_images: `"error"` or `"skip"`, as for `training_batches`; but nothing takes the place of
            an image that is skipped.

    Returns:
        A finite `tf.data.Dataset` of (images, labels): float32 (batch, height, width, channels),
        normalised, and int64 (batch,).

    Raises:
        ValueError: If the model takes another number of channels than the images can have.
    """
    _check(source, preprocessing, bad_images)
    shape = (preprocessing.height, preprocessing.width, len(preprocessing.mean))

    files = isinstance(source, FileSource)

    def prepared(image, name):
        try:
            if isinstance(image, bytes):
                image = decoding.load_any(os.fsdecode(image) if files else image)
        except ValueError as error:
            name = name.decode(errors="replace")
            decoding.note(source, name, str(error), bad_images == "skip")
            return np.zeros(shape, "float32"), False
        return preprocessing(image), True

    # With Pillow, and so to the last bit what prediction does; TensorFlow is no faster here.
    def prepare(image, label, name):
        pixels, good = python_call(prepared, [image, name], (tf.float32, tf.bool))
        return tf.ensure_shape(pixels, shape), label, tf.ensure_shape(good, ())

    if isinstance(source, IndexedSource):
        read = source.locate if files else source.read
        examples = tf.data.Dataset.range(shard[0], len(source), shard[1]).map(read)
    else:
        assert isinstance(source, StreamSource)
        examples = source.stream(shard=shard)
    return (
        examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        .filter(lambda *example: example[2])
        .map(lambda *example: example[:2])
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def augmented(image, seed, augmentation, preprocessing):
    """One image of a training batch, before it is mixed with others.

    Args:
        image: Scalar string, the content of an image file; or uint8 (height, width, channels).
        seed: Integer tensor (2,), which decides all draws.
        augmentation: An `Augmentation`.
        preprocessing: A `Preprocessing`.

    Returns:
        float32 (height, width, channels), normalised.
    """
    seeds = tf.unstack(tf.random.split(seed, 4))
    pixels = random_view(image, seeds[0], augmentation, preprocessing)
    pixels = random_flip(pixels, augmentation.flip, seeds[1])
    if augmentation.randaugment_draws:
        fill = [round(255 * value) for value in preprocessing.mean]
        pixels = rand_augment(pixels, seeds[2], augmentation, fill)
    pixels = normalized(pixels, preprocessing)
    if augmentation.erasing:
        pixels = random_erasing(pixels, seeds[3], augmentation)
    return pixels


def random_view(image, seed, augmentation, preprocessing):
    """uint8 (height, width, channels): a random crop of an image, resized."""
    seeds = tf.unstack(tf.random.split(seed, 3))
    height, width, channels = size = _size(preprocessing)
    choose_box = None
    if augmentation.crop_area is not None:
        area, ratio = augmentation.crop_area, augmentation.crop_ratio
        choose_box = functools.partial(random_box, seed=seeds[0], area=area, ratio=ratio)
    pixels = decoding.decode(image, channels, choose_box)
    bicubic = tf.constant(augmentation.interpolation == "bicubic")
    if augmentation.interpolation == "random":
        bicubic = tf.random.stateless_uniform((), seeds[1]) < 0.5
    pixels = tf.ensure_shape(resize(pixels, (height, width), bicubic), size)
    return padded_crop(pixels, augmentation.padding, seeds[2])


def normalized(pixels, preprocessing):
    """`Preprocessing.normalize`, for images of its size and faster."""
    # Of the image's whole shape, because to repeat three numbers for each pixel takes longer.
    mean, std = (
        np.broadcast_to(np.float32(values), _size(preprocessing))
        for values in (preprocessing.mean, preprocessing.std)
    )
    return (tf.cast(pixels, tf.float32) / 255.0 - mean) / std


def _size(preprocessing):
    return preprocessing.height, preprocessing.width, len(preprocessing.mean)


def _check(source, preprocessing, bad_images):
    if bad_images not in BAD_IMAGES:
        raise ValueError(f"bad_images: expected one of {', '.join(BAD_IMAGES)}, got {bad_images!r}")
    channels = len(preprocessing.mean)
    if channels not in (1, 3) or source.channels not in (None, 1, 3, 4):
        raise ValueError(
            f"preprocessing: expected 1 or 3 channels and images of 1, 3 or 4, got {channels} "
            f"and {source.name} with {source.channels}"
        )


def _reported(good, images, names, source, skip):
    """`good`, after those that are not were noted or an error was raised."""

    def noted(good, images, names):
        for place in np.flatnonzero(~good):
            name = names[place].decode(errors="replace")
            image = os.fsdecode(names[place]) if isinstance(source, FileSource) else images[place]
            decoding.note(source, name, decoding.reason(image), skip)
        return good

    def report():
        return tf.ensure_shape(python_call(noted, [good, images, names], tf.bool), good.shape)

    return tf.cond(tf.reduce_all(good), lambda: good, report)


def _replaced(images, labels, good):
    """Puts the next good image of the batch, and its label, where one is not good."""
    places = tf.where(good)[:, 0]
    some = tf.debugging.Assert(tf.size(places) > 0, ["no image of a batch can be decoded"])
    with tf.control_dependencies([some]):
        following = tf.searchsorted(places, tf.range(tf.size(good, tf.int64)))
    chosen = tf.gather(places, following % tf.size(places))
    return tf.cond(
        tf.reduce_all(good),
        lambda: (images, labels),
        lambda: (tf.gather(images, chosen), tf.gather(labels, chosen)),
    )


def _in_random_order(source, seed, start_step, steps, batch_size, shard):
    """Endless (epoch, position in the epoch's order over all hosts, image, label, name).

    Of a `FileSource` it is the path, not yet the image.
    """
    index, count = shard
    own = batch_size // count

    def position(number):
        return number // own % steps * batch_size + index * own + number % own

    if isinstance(source, IndexedSource):
        find = source.locate if isinstance(source, FileSource) else source.read

        def read(number):
            epoch = number // (own * steps)
            chosen = shuffled_index(position(number), (seed, epoch), len(source))
            return epoch, position(number), *find(chosen)

        numbers = tf.data.Dataset.counter(start_step * own)
        return numbers.map(read, num_parallel_calls=tf.data.AUTOTUNE)

    start_epoch, first = divmod(start_step, steps)
    skipped = tf.constant(first * own, tf.int64)

    def read_epoch(epoch):
        examples = source.stream((seed, epoch), shard).take(steps * own).enumerate()
        examples = examples.skip(tf.where(epoch == start_epoch, skipped, 0))
        return examples.map(lambda number, example: (epoch, position(number), *example))

    return tf.data.Dataset.counter(start_epoch).flat_map(read_epoch)
