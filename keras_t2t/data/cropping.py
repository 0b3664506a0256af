"""Where training looks at an image: a random crop, resized, padded and mirrored at random."""

import tensorflow as tf

ATTEMPTS = 10


def random_box(shape, seed, area, ratio):
    """Draws a rectangle inside an image; where ten do not fit, the largest central one.

    Args:
        shape: int32 tensor (2,), height and width of the image.
        seed: Integer tensor (2,).
        area: Pair of floats, the share of the image's area, uniformly between them.
        ratio: Pair of floats, width over height, log-uniformly between them.

    Returns:
        int32 tensor (4,): top, left, height, width.

    Source: `timm/data/transforms.py`, `RandomResizedCropAndInterpolation.get_params`.
    """
    draws = tf.random.stateless_uniform((4, ATTEMPTS), seed)
    size = tf.cast(shape, tf.float32)
    heights, widths = rectangles(size[0] * size[1], draws[0], draws[1], area, ratio, height_up=-1)
    # A side of a tiny image can round to nothing.
    heights, widths = tf.maximum(heights, 1), tf.maximum(widths, 1)
    fits = (widths <= shape[1]) & (heights <= shape[0])
    attempt = tf.argmax(fits)
    # The first that fits, somewhere; or as much as the bounds of the ratio allow, in the middle.
    whole = size[1] / size[0]
    widest = tf.stack([shape[0], round_to_int(size[0] * ratio[1])])
    highest = tf.stack([round_to_int(size[1] / ratio[0]), shape[1]])
    central = tf.where(whole < ratio[0], highest, tf.where(whole > ratio[1], widest, shape))
    found = tf.reduce_any(fits)
    box = tf.where(found, tf.stack([heights[attempt], widths[attempt]]), central)
    free = shape - box
    corner = tf.where(found, place(draws[2:, attempt], free), free // 2)
    return tf.concat([corner, box], 0)


def rectangles(whole, area_draws, ratio_draws, area, ratio, height_up):
    """(heights, widths), int32, of rectangles of drawn area and aspect ratio.

    `height_up` is 1 where the ratio is height over width, and -1 where it is width over height.
    """
    areas = whole * (area[0] + area_draws * (area[1] - area[0]))
    low, high = tf.math.log(ratio[0]), tf.math.log(ratio[1])
    root = tf.exp((low + ratio_draws * (high - low)) * height_up / 2)
    side = tf.sqrt(areas)
    return round_to_int(side * root), round_to_int(side / root)


def place(draw, free):
    """An integer in 0..free, all equally likely, from a float in [0, 1)."""
    return tf.minimum(tf.cast(draw * tf.cast(free + 1, tf.float32), tf.int32), free)


def round_to_int(values):
    """Half to even, as Python rounds."""
    return tf.cast(tf.round(values), tf.int32)


def resize(image, size, bicubic):
    """Resizes with antialiasing, as Pillow does; uint8 in, uint8 out.

    Args:
        image: uint8 (rows, columns, channels).
        size: Pair of ints (height, width).
        bicubic: Scalar bool tensor: bicubic, or else bilinear.

    Pillow also rounds and clips between columns and rows: by 0.3 of 255 it differs in the mean, and
    at most by 2; bicubically by 8 at sharp edges.
    """
    resized = tf.cond(
        bicubic,
        lambda: tf.image.resize(image, size, "bicubic", antialias=True),
        lambda: tf.image.resize(image, size, "bilinear", antialias=True),
    )
    return tf.saturate_cast(tf.round(resized), tf.uint8)


def padded_crop(image, padding, seed):
    """Pads with black on every side and crops to the old size at a random place."""
    if not padding:
        return image
    padded = tf.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    corner = tf.random.stateless_uniform((2,), seed, 0, 2 * padding + 1, tf.int32)
    return tf.ensure_shape(tf.slice(padded, tf.concat([corner, [0]], 0), image.shape), image.shape)


def random_flip(image, probability, seed):
    """Mirrors left and right with a probability."""
    flipped = tf.random.stateless_uniform((), seed) < probability
    return tf.cond(flipped, lambda: tf.reverse(image, [1]), lambda: image)
