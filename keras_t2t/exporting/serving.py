"""What stands around the network in an exported file: pixels in, probabilities out."""

import keras
import numpy as np
import tensorflow as tf


def serving_model(network, metadata):
    """A model with named input and output, as its metadata say.

    Args:
        network: A functional `keras.Model` of one input and one output.
        metadata: A `Metadata`: with `pixels` the normalisation stands before the network; a softmax
            stands behind it if `"probabilities"` are to come out.

    Returns:
        A `keras.Model` from `images` to `{metadata.output: scores}`.
    """
    dtype = "uint8" if metadata.pixels else "float32"
    images = keras.Input(network.input_shape[1:], dtype=dtype, name="images")
    scores = network(Normalize(metadata.preprocessing)(images) if metadata.pixels else images)
    if metadata.output == "probabilities":
        scores = keras.layers.Softmax(dtype="float32")(scores)
    return keras.Model(images, {metadata.output: scores}, name=network.name)


class Normalize(keras.layers.Layer):
    """Pixels in 0..255 to what `preprocessing.normalize` makes of them, in two operations."""

    def __init__(self, preprocessing):
        super().__init__(autocast=False, dtype="float32")
        mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
        self.scale = (1 / (255 * std)).astype("float32")
        self.shift = (-mean / std).astype("float32")

    def call(self, pixels):
        return tf.cast(pixels, tf.float32) * self.scale + self.shift

    def compute_output_spec(self, pixels):
        return keras.KerasTensor(pixels.shape, "float32")


def prepare_pixels(images, preprocessing):
    """`Preprocessing.__call__` as a TensorFlow graph: resize, centre crop, normalise.

    Pillow resizes 8-bit images in two passes and rounds after each, half up. So does this, the
    width first; where Pillow takes the height first, one pixel in four differs by one in 255.

    Args:
        images: uint8 tensor (batch, rows, columns, channels) of any size.
        preprocessing: A `Preprocessing`.

    Returns:
        float32 tensor (batch, height, width, channels).
    """
    height, width = preprocessing.height, preprocessing.width
    rows, columns = tf.shape(images)[1], tf.shape(images)[2]
    if preprocessing.crop_fraction is None:
        new_rows, new_columns = height, width
    else:
        target_rows = int(height / preprocessing.crop_fraction)
        target_columns = int(width / preprocessing.crop_fraction)
        by_width = columns * target_rows <= rows * target_columns
        new_rows = tf.where(by_width, target_columns * rows // columns, target_rows)
        new_columns = tf.where(by_width, target_columns, target_rows * columns // rows)

    def resize(x, size):
        x = tf.image.resize(x, size, preprocessing.interpolation, antialias=True)
        return tf.clip_by_value(tf.floor(x + 0.5), 0.0, 255.0)

    x = resize(resize(images, (rows, new_columns)), (new_rows, new_columns))
    if preprocessing.crop_fraction is not None:
        top, left = _half_to_even(new_rows - height), _half_to_even(new_columns - width)
        x = x[:, top : top + height, left : left + width]
    x = tf.ensure_shape(x, (None, height, width, images.shape[-1]))
    return preprocessing.normalize(x)


def decode(encoded, channels):
    """An encoded image, JPEG or PNG, as uint8 pixels (rows, columns, channels).

    Turned as it is stored: a graph cannot read the orientation that cameras note in EXIF.
    """
    # The decoder that Pillow uses, which is the exact one.
    x = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    if channels == 3:
        return x
    # Pillow's grey: ITU-R 601-2 luma in 16-bit fixed point.
    x = tf.tensordot(tf.cast(x, tf.int32), tf.constant((19595, 38470, 7471)), 1) + 0x8000
    return tf.cast(x // 0x10000, tf.uint8)[..., None]


def _half_to_even(number):
    """`round(number / 2)` of integers."""
    return number // 2 + number % 2 * (number // 2 % 2)
