"""Batches for training and evaluation: `tf.data` under every Keras backend."""

import tensorflow as tf

from keras_t2t.data.sources import IndexedSource


def training_batches(
    source,
    augmentation,
    batch_size,
    seed,
    start_step=0,
    *,
    preprocessing,
    shard=(0, 1),
    devices=1,
):
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

    Returns:
        A `tf.data.Dataset` of (images, labels): float32 (batch, height, width, channels),
        normalised, and float32 (batch, classes), smoothed and mixed; `batch` is
        `batch_size // count`.

    Raises:
        ValueError: If the batch size is above the number of images or cannot be split evenly.
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
    seed = tf.constant(seed, tf.int64)
    own = batch_size // count

    examples = _in_random_order(source, seed, start_step, steps, batch_size, shard)

    def prepare(epoch, position, image, label, name):
        image = _decode(image, preprocessing)
        image = tf.image.resize(
            image, (preprocessing.height, preprocessing.width), "bicubic", antialias=True
        )
        image = tf.clip_by_value(tf.round(image), 0, 255)
        return preprocessing.normalize(image), label

    def label(images, labels):
        return images, tf.one_hot(labels, source.num_classes)

    return (
        examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(own, drop_remainder=True)
        .map(label)
        .prefetch(tf.data.AUTOTUNE)
    )


def evaluation_batches(source, preprocessing, batch_size):
    """Batches in the source's order, prepared as `preprocessing` does; the last may be smaller.

    Args:
        source: A `Source`.
        preprocessing: A `Preprocessing`.
        batch_size: Int.

    Returns:
        A finite `tf.data.Dataset` of (images, labels): float32 (batch, height, width, channels),
        normalised, and int64 (batch,).
    """
    if isinstance(source, IndexedSource):
        examples = tf.data.Dataset.range(len(source)).map(source.read)
    else:
        examples = source.stream()

    def prepare(image, label, name):
        pixels = tf.numpy_function(preprocessing, [_decode(image, preprocessing)], tf.float32)
        shape = (preprocessing.height, preprocessing.width, len(preprocessing.mean))
        return tf.ensure_shape(pixels, shape), label

    return (
        examples.map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch_size)
        .prefetch(tf.data.AUTOTUNE)
    )


def _in_random_order(source, seed, start_step, steps, batch_size, shard):
    """Endless (epoch, position in the epoch's order over all hosts, image, label, name)."""
    index, count = shard
    own = batch_size // count

    if isinstance(source, IndexedSource):

        def read(number):
            step = number // own
            epoch = step // steps
            position = step % steps * batch_size + index * own + number % own
            chosen = tf.random.experimental.index_shuffle(
                position, tf.stack([seed, epoch]), len(source) - 1
            )
            return epoch, position, *source.read(chosen)

        return tf.data.Dataset.counter(start_step * own).map(
            read, num_parallel_calls=tf.data.AUTOTUNE
        )

    start_epoch, first = divmod(start_step, steps)

    def read_epoch(epoch):
        examples = source.stream((seed, epoch), shard)
        examples = examples.take(steps * own).enumerate()
        examples = examples.skip(
            tf.where(epoch == start_epoch, tf.constant(first * own, tf.int64), 0)
        )

        def place(number, example):
            position = number // own * batch_size + index * own + number % own
            return epoch, position, *example

        return examples.map(place)

    return tf.data.Dataset.counter(start_epoch).flat_map(read_epoch)


def _decode(image, preprocessing):
    if image.dtype == tf.string:
        image = tf.io.decode_image(image, len(preprocessing.mean), expand_animations=False)
    return image
