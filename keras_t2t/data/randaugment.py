"""RandAugment with timm's 15 operations (`rand-m9-mstd0.5-inc1`), as Pillow computes them."""

import functools
import math

import numpy as np
import tensorflow as tf

from keras_t2t.data.decoding import grey

MAX_MAGNITUDE = 10.0


def rand_augment(image, seed, augmentation, fill):
    """Applies operations drawn at random, with replacement.

    Args:
        image: uint8 (height, width, 1 or 3), of static shape.
        seed: Integer tensor (2,), which decides all draws.
        augmentation: An `Augmentation`.
        fill: Tuple of an int for each channel: the pixel where the image was moved away.

    Returns:
        The image, of the same shape and kind.

    Source: `timm/data/auto_augment.py`, release 0.3.4, `_RAND_INCREASING_TRANSFORMS`. There each
    geometric operation interpolates bilinearly or bicubically at random; here always bilinearly.
    """
    draws = augmentation.randaugment_draws
    seeds = tf.random.split(seed, 2)
    uniform = tf.random.stateless_uniform((draws, 3), seeds[0])
    mean, deviation = augmentation.randaugment_magnitude, augmentation.randaugment_std
    magnitudes = tf.random.stateless_normal((draws,), seeds[1], mean, deviation, tf.float64)
    levels = tf.clip_by_value(magnitudes / MAX_MAGNITUDE, 0, 1)
    for draw in range(draws):
        chosen = tf.cast(uniform[draw, 0] * len(OPERATIONS), tf.int32)
        applied = uniform[draw, 1] < augmentation.randaugment_probability
        chosen = tf.where(applied, chosen, len(OPERATIONS))
        strength = tf.where(uniform[draw, 2] < 0.5, -levels[draw], levels[draw])
        branches = [functools.partial(operate, image, strength, fill) for operate in OPERATIONS]
        result = tf.switch_case(chosen, [*branches, lambda image=image: image])
        image = tf.ensure_shape(result, image.shape)
    return image


def auto_contrast(image, strength, fill):
    """Stretches each channel to 0..255."""
    low = tf.cast(tf.reduce_min(image, axis=(0, 1)), tf.float64)
    high = tf.cast(tf.reduce_max(image, axis=(0, 1)), tf.float64)
    scale = 255 / tf.maximum(high - low, 1)
    values = tf.range(256, dtype=tf.float64)[:, None]
    table = tf.cast(tf.clip_by_value(values * scale - low * scale, 0, 255), tf.int32)
    return _look_up(image, tf.where(high > low, table, tf.range(256)[:, None]))


def equalize(image, strength, fill):
    """Makes the histogram of each channel as flat as it can be."""
    channels = image.shape[-1]
    counts = tf.math.bincount(
        tf.reshape(_channel_offsets(image), [-1]), minlength=256 * channels, dtype=tf.int32
    )
    counts = tf.reshape(counts, (channels, 256))
    values = tf.range(256)
    highest = tf.reduce_max(tf.where(counts > 0, values, 0), axis=1)
    total = tf.size(image) // channels
    step = (total - tf.gather(counts, highest, batch_dims=1)) // 255
    below = tf.cumsum(counts, axis=1, exclusive=True)
    table = (below + step[:, None] // 2) // tf.maximum(step[:, None], 1)
    table = tf.where(step[:, None] > 0, tf.minimum(table, 255), values)
    return _look_up(image, tf.transpose(table))


def invert(image, strength, fill):
    """Negates."""
    return 255 - image


def rotate(image, strength, fill):
    """Rotates around the centre, by up to 30 degrees."""
    angle = strength * math.radians(30)
    cos, sin = tf.cos(angle), tf.sin(angle)
    x, y = image.shape[1] / 2, image.shape[0] / 2
    return _affine(image, (cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y), fill)


def posterize(image, strength, fill):
    """Keeps the highest bits of a pixel, 4 down to 0."""
    dropped = 4 + tf.cast(tf.abs(strength) * 4, tf.int32)
    return tf.bitwise.bitwise_and(image, tf.cast(256 - 2**dropped, tf.uint8))


def solarize(image, strength, fill):
    """Negates the pixels above a threshold, which falls from 256 to 0."""
    threshold = 256 - tf.cast(tf.abs(strength) * 256, tf.int32)
    # Arithmetic, here and below, because `tf.where` takes ten times as long.
    above = tf.cast(tf.cast(image, tf.int32) >= threshold, tf.uint8)
    return tf.bitwise.bitwise_xor(image, 255 * above)


def solarize_add(image, strength, fill):
    """Brightens the pixels below 128, by up to 110."""
    added = tf.cast(tf.abs(strength) * 110, tf.uint8)
    # 127 + 110 is below 256: nothing to clip.
    return image + added * tf.cast(image < 128, tf.uint8)


def color(image, strength, fill):
    """Blends with its grey version."""
    return _blend(image, tf.cast(grey(image), tf.float32), strength)


def contrast(image, strength, fill):
    """Blends with its mean grey."""
    # A sum of integers: exact, as Pillow's.
    total = tf.reduce_sum(tf.cast(grey(image), tf.int64))
    size = tf.size(image[..., 0], tf.int64)
    mean = (2 * total + size) // (2 * size)
    return _blend(image, tf.cast(mean, tf.float32), strength)


def brightness(image, strength, fill):
    """Blends with black."""
    return _blend(image, 0.0, strength)


def sharpness(image, strength, fill):
    """Blends with a blurred version; the outermost pixels stay."""
    pixels = tf.cast(image, tf.float32)
    rows = pixels[:-2] + pixels[1:-1] + pixels[2:]
    sums = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * pixels[1:-1, 1:-1]
    blurred = tf.floor(sums / 13 + 0.5)
    inside = _blend(image[1:-1, 1:-1], blurred, strength)
    inside = tf.concat([image[1:-1, :1], inside, image[1:-1, -1:]], axis=1)
    return tf.concat([image[:1], inside, image[-1:]], axis=0)


def shear_x(image, strength, fill):
    """Shears along the rows, by up to 0.3."""
    return _affine(image, (1.0, strength * 0.3, 0.0, 0.0, 1.0, 0.0), fill)


def shear_y(image, strength, fill):
    """Shears along the columns, by up to 0.3."""
    return _affine(image, (1.0, 0.0, 0.0, strength * 0.3, 1.0, 0.0), fill)


def translate_x(image, strength, fill):
    """Moves along the rows, by up to 0.45 of the width."""
    return _moved(image, strength * 0.45 * image.shape[1], 1, fill)


def translate_y(image, strength, fill):
    """Moves along the columns, by up to 0.45 of the height."""
    return _moved(image, strength * 0.45 * image.shape[0], 0, fill)


# timm's order. Each takes (image, strength, fill). Strength is the magnitude of 10, negated for one
# half of the draws, and a float64: what comes out whole at timm does so here.
OPERATIONS = [
    *(auto_contrast, equalize, invert, rotate, posterize, solarize, solarize_add),
    *(color, contrast, brightness, sharpness, shear_x, shear_y, translate_x, translate_y),
]


def _blend(image, other, strength):
    """`other + (1 +- up to 0.9) * (image - other)`, clipped and cut to integers as Pillow does."""
    factor = tf.cast(1 + strength * 0.9, tf.float32)
    blended = other + factor * (tf.cast(image, tf.float32) - other)
    return tf.cast(tf.clip_by_value(blended, 0, 255), tf.uint8)


def _channel_offsets(image):
    """int32 pixels, those of each further channel 256 higher."""
    # Reshaped, because adding a vector as short as the channels is slow.
    channels = image.shape[-1]
    rows = tf.reshape(tf.cast(image, tf.int32), (tf.shape(image)[0], -1))
    return rows + tf.tile(256 * tf.range(channels), tf.shape(image)[1:2])


def _look_up(image, table):
    """Replaces pixels by the int32 table (256, channels)."""
    table = tf.reshape(tf.transpose(tf.cast(table, tf.uint8)), [-1])
    return tf.reshape(tf.gather(table, _channel_offsets(image)), tf.shape(image))


def _affine(image, matrix, fill):
    """Takes each pixel (x, y) from (a x + b y + c, d x + e y + f), bilinearly, as Pillow does.

    Coordinates are those of the pixels' centres, 0.5 for the first.
    """
    a, b, c, d, e, f = (tf.cast(value, tf.float32) for value in matrix)
    height, width, _ = image.shape
    # The operation counts from the centre of the first pixel.
    from_zero = (a, b, c + (a + b - 1) / 2, d, e, f + (d + e - 1) / 2, 0.0, 0.0)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=[from_zero],
        output_shape=(height, width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )[0]
    x = _columns(image)
    y = tf.range(height, dtype=tf.float32)[:, None] + 0.5
    old_x, old_y = a * x + (b * y + c), d * x + (e * y + f)
    inside = (old_x >= 0) & (old_x < width) & (old_y >= 0) & (old_y < height)
    return _filled(moved, inside, fill)


def _moved(image, distance, axis, fill):
    """`_affine` by a distance along one axis: slices, in half the time."""
    size = image.shape[axis]
    whole = tf.floor(distance)
    part = tf.cast(distance - whole, tf.float32)
    # A further pixel at both ends, as Pillow repeats the outermost.
    padded = tf.pad(image, [[int(axis == i)] * 2 for i in range(3)], "SYMMETRIC")
    padded = tf.cast(tf.roll(padded, -tf.cast(whole, tf.int32), axis), tf.float32)
    if axis == 0:
        here, after = padded[1:-1], padded[2:]
        old = tf.range(size, dtype=tf.float32)[:, None] + 0.5
    else:
        here, after = padded[:, 1:-1], padded[:, 2:]
        old = _columns(image)[None]
    old += tf.cast(distance, tf.float32)
    moved = tf.cast(here + part * (after - here), tf.uint8)
    return _filled(moved, (old >= 0) & (old < size), fill)


def _columns(image):
    """Where the columns' centres are, each once for every channel.

    So nothing as short as the channels has to be repeated for every pixel, which is slow.
    """
    _, width, channels = image.shape
    return tf.constant(np.repeat(np.arange(width, dtype="float32") + 0.5, channels))


def _filled(image, inside, fill):
    """The fill where `inside`, broadcast to (height, width * channels), is false."""
    height, width, channels = image.shape
    image = tf.reshape(image, (height, width * channels))
    filled = tf.constant(np.tile(np.uint8(fill), (height, width)))
    changed = tf.bitwise.bitwise_xor(image, filled)
    changed = tf.bitwise.bitwise_and(changed, 255 * tf.cast(inside, tf.uint8))
    return tf.reshape(tf.bitwise.bitwise_xor(filled, changed), (height, width, channels))
