"""Mixup and CutMix of a batch with itself in reversed order, and the labels that belong to it."""

import tensorflow as tf


def mix(images, labels, classes, seed, augmentation):
    """Mixes a batch: one choice of Mixup or CutMix and one lambda for all of it.

    Args:
        images: float32 (batch, height, width, channels), normalised, of static height and width.
        labels: Integers (batch,).
        classes: Int, number of classes.
        seed: Integer tensor (2,), which decides all draws.
        augmentation: An `Augmentation`.

    Returns:
        (images, labels): the labels are float32 (batch, classes), smoothed and mixed.

    Source: `timm/data/mixup.py`, release 0.3.4, mode "batch" with corrected lambda.
    """
    labels = smoothed(labels, classes, augmentation.label_smoothing)
    if not (augmentation.mixup or augmentation.cutmix):
        return images, labels
    seeds = tf.random.split(seed, 4)
    draws = tf.random.stateless_uniform((2,), seeds[0])
    both = augmentation.mixup and augmentation.cutmix
    share = augmentation.switch_probability if both else float(bool(augmentation.cutmix))

    def cutmix():
        share = beta(augmentation.cutmix, seeds[1])
        box = cutmix_box(share, images.shape[1:3], seeds[2])
        return cut(images, labels, box)

    def mixup():
        return blend(images, labels, beta(augmentation.mixup, seeds[3]))

    def mixed():
        if not both:
            return cutmix() if augmentation.cutmix else mixup()
        return tf.cond(draws[0] < share, cutmix, mixup)

    return tf.cond(draws[1] < augmentation.mix_probability, mixed, lambda: (images, labels))


def smoothed(labels, classes, smoothing):
    """One-hot labels of which a share of `smoothing` is spread over all classes."""
    off = smoothing / classes
    return tf.one_hot(labels, classes, 1 - smoothing + off, off)


def beta(alpha, seed):
    """A scalar of Beta(alpha, alpha), float32."""
    # float64, in which a small alpha's gammas do not vanish.
    pair = tf.random.stateless_gamma((2,), seed, tf.constant(alpha, tf.float64), dtype=tf.float64)
    return tf.cast(pair[0] / (pair[0] + pair[1]), tf.float32)


def blend(images, labels, share):
    """Mixup: `share` of each image and label, the rest of its partner's."""
    return tuple(share * own + (1 - share) * tf.reverse(own, [0]) for own in (images, labels))


def cutmix_box(share, size, seed):
    """(top, bottom, left, right) of a box that covers `1 - share` of an image, clipped to it."""
    height, width = size
    side = tf.sqrt(1 - share)
    rows, columns = tf.cast(height * side, tf.int32), tf.cast(width * side, tf.int32)
    draws = tf.random.stateless_uniform((2,), seed)
    y, x = tf.cast(draws[0] * height, tf.int32), tf.cast(draws[1] * width, tf.int32)
    return (
        tf.maximum(y - rows // 2, 0),
        tf.minimum(y + rows // 2, height),
        tf.maximum(x - columns // 2, 0),
        tf.minimum(x + columns // 2, width),
    )


def cut(images, labels, box):
    """CutMix: each image's box comes from its partner, and the label's share is the box's area."""
    top, bottom, left, right = box
    height, width = images.shape[1:3]
    # Put together from pieces: with a mask it takes ten times as long.
    other = tf.reverse(images[:, top:bottom, left:right], [0])
    rows = images[:, top:bottom]
    rows = tf.concat([rows[:, :, :left], other, rows[:, :, right:]], axis=2)
    images = tf.concat([images[:, :top], rows, images[:, bottom:]], axis=1)
    area = tf.cast((bottom - top) * (right - left), tf.float32) / (height * width)
    return images, (1 - area) * labels + area * tf.reverse(labels, [0])
