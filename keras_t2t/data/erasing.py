"""Random erasing: a rectangle of a normalised image becomes noise."""

import tensorflow as tf

from keras_t2t.data.cropping import ATTEMPTS, place, rectangles


def random_erasing(image, seed, augmentation):
    """Fills a rectangle drawn at random with N(0, 1), a value for each pixel and channel.

    Args:
        image: float32 (height, width, channels), normalised, of static shape.
        seed: Integer tensor (2,), which decides all draws.
        augmentation: An `Augmentation`.

    Returns:
        The image, of the same shape and kind; unchanged with probability
        `1 - augmentation.erasing`, or if none of ten rectangles fits.

    Source: `timm/data/random_erasing.py`, release 0.3.4, mode "pixel".
    """
    height, width, channels = image.shape
    seeds = tf.random.split(seed, 3)
    draws = tf.random.stateless_uniform((4, ATTEMPTS), seeds[0])
    heights, widths = rectangles(
        float(height * width),
        draws[0],
        draws[1],
        augmentation.erasing_area,
        augmentation.erasing_ratio,
        height_up=1,
    )
    fits = (heights < height) & (widths < width)
    attempt = tf.argmax(fits)
    rows, columns = heights[attempt], widths[attempt]
    top = place(draws[2, attempt], height - rows)
    left = place(draws[3, attempt], width - columns)

    def erased():
        noise = tf.random.stateless_normal(tf.stack([rows, columns, channels]), seeds[1])
        band = image[top : top + rows]
        band = tf.concat([band[:, :left], noise, band[:, left + columns :]], axis=1)
        return tf.ensure_shape(tf.concat([image[:top], band, image[top + rows :]], 0), image.shape)

    wanted = tf.random.stateless_uniform((), seeds[2]) < augmentation.erasing
    return tf.cond(wanted & tf.reduce_any(fits), erased, lambda: image)
