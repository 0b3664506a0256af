"""What stands around the network in an exported file: pixels in, probabilities out."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_t2t.data.decoding import with_channels


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
    x = images = keras.Input(network.input_shape[1:], dtype=dtype, name="images")
    if metadata.pixels:
        # `Preprocessing.normalize` in two operations.
        mean, std = np.array(metadata.preprocessing.mean), np.array(metadata.preprocessing.std)
        shift: Any = -mean / std  # An array is as good as the float that Keras' hint asks for.
        x = keras.layers.Rescaling(1 / (255 * std), shift, dtype="float32")(x)
    scores = network(x)
    if metadata.output == "probabilities":
        scores = keras.layers.Softmax(dtype="float32")(scores)
    return keras.Model(images, {metadata.output: scores}, name=network.name)


def images_spec(network, batch):
    """The `tf.TensorSpec` of such a model's input; `batch` is `None` for any."""
    (images,) = network.inputs
    return tf.TensorSpec((batch, *images.shape[1:]), images.dtype, name="images")


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
    top, left = _half_to_even(new_rows - height), _half_to_even(new_columns - width)
    x = x[:, top : top + height, left : left + width]
    x = tf.ensure_shape(x, (None, height, width, images.shape[-1]))
    return preprocessing.normalize(x)


def decode(encoded, channels):
    """An encoded image, JPEG or PNG, as uint8 pixels (rows, columns, channels).

    Turned as it is stored: a graph cannot read the orientation that cameras note in EXIF.
    """
    # The decoder that Pillow uses, which is the exact one.
    pixels = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")
    return with_channels(pixels, channels)


def _half_to_even(number):
    """`round(number / 2)` of integers."""
    return number // 2 + number % 2 * (number // 2 % 2)
