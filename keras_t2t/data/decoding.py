"""Encoded images to pixels inside `tf.data`, and what becomes of those that cannot be decoded."""

import contextlib
import io
import logging
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image

from keras_t2t.data.python_calls import python_call
from keras_t2t.image_files import load_image
from keras_t2t.progress import printable

logger = logging.getLogger("keras_t2t")

# Before what an error inside `tf.data` is to say.
_FAILED, BAD_LABEL = "undecodable image: ", "bad label: "
# Where the EXIF block of a JPEG file begins: at once, or behind JFIF's 18 bytes.
_EXIF_PLACES = (6, 24)


class BadImageError(ValueError):
    """An image or its label cannot be read; the message names it, or a file of images."""


@contextlib.contextmanager
def naming_bad_images():
    """Raises a `BadImageError` of one line in place of TensorFlow's error about bad data.

    with naming_bad_images():
        model.fit(batches)
    """
    try:
        yield
    except tf.errors.OpError as error:
        message = error.message or ""
        found = re.search(f"{_FAILED}(.*)|{BAD_LABEL}([^]]*)", message)
        if found is not None:
            raise BadImageError(found[1] or found[2]) from error
        if isinstance(error, tf.errors.DataLossError):
            raise BadImageError(f"a file of records is damaged: {in_a_line(error)}") from error
        raise


def in_a_line(error) -> str:
    """The message of an `OpError` in one line, without the places in the graph."""
    return re.sub(r"{{.*?}} *| *\[(\[|Op:).*", "", " ".join((error.message or "").split()))


def decode(image, channels: int, choose_box: Callable | None = None):
    """Decodes an image, or only a box of it.

    Args:
        image: Scalar string, the content of an image file; or uint8 (height, width, channels).
        channels: Int, 1 or 3 of an encoded image. Pixels of 1 channel become 3 equal ones, and of
            3 grey.
        choose_box: Function of the shape, int32 (2,), that returns the box, int32 (4,): top, left,
            height, width. `None` means all.

    Returns:
        uint8 (rows, columns, channels). JPEG and PNG files are decoded by TensorFlow; all others,
        those that have to be turned upright and JPEG files in CMYK by Pillow.
    """
    if image.dtype != tf.string:
        return _cropped(with_channels(image, channels), choose_box)
    jpeg = tf.io.is_jpeg(image)
    jpeg = tf.cond(jpeg, lambda: tf.logical_not(_needs_pillow(image)), lambda: False)
    pixels = tf.cond(
        jpeg,
        lambda: _decode_jpeg(image, channels, choose_box),
        lambda: _cropped(_decode_other(image, channels), choose_box),
    )
    return tf.ensure_shape(pixels, (None, None, channels))


def attempt_all(function: Callable, number: int, shape: tuple, dtype):
    """Calls a function several times, where a call may fail.

    Args:
        function: Function of a scalar int64 tensor, 0 up to `number` - 1, that returns a tensor.
        number: Int.
        shape: Static shape of what it returns.
        dtype: Its dtype.

    Returns:
        (results, good): the results, (number, *shape), zeros where a call failed; and bool
        (number,).
    """
    # Nothing but a data set can catch an error in a graph. To make one costs half a millisecond,
    # and so there is one for several images.
    results = tf.data.Dataset.range(number).map(lambda place: (place, function(place)))
    none = tf.zeros((0,), tf.int64), tf.zeros((0, *shape), dtype)
    results = results.ignore_errors().batch(number)
    results = results.concatenate(tf.data.Dataset.from_tensors(none))
    # Not `reduce`, which would optimise the data set anew each time.
    places, values = results.take(1).get_single_element()
    good = tf.reduce_any(tf.range(number, dtype=tf.int64)[:, None] == places, axis=1)
    values = tf.cond(
        tf.reduce_all(good),
        lambda: values,
        lambda: tf.scatter_nd(places[:, None], values, (number, *shape)),
    )
    return tf.ensure_shape(values, (number, *shape)), good


def note(source, name: str, reason: str, skip: bool) -> None:
    """Notes an image that cannot be decoded in `source.skipped`, or raises an error that names it.

    Args:
        source: A `Source`.
        name: Str, what the image is called.
        reason: Str.
        skip: Bool.

    Raises:
        BadImageError: If `skip` is false; inside `tf.data` it arrives as an `OpError`, see
            `naming_bad_images`.
    """
    if not skip:
        raise BadImageError(f"{_FAILED}{name}: {reason}")
    if name not in source.skipped:
        source.skipped[name] = reason
        logger.warning("skipped %s: %s", printable(name), printable(reason))


def load_any(image: str | bytes) -> Image.Image:
    """`load_image` of a path, str, or of the content of a file, bytes.

    Raises:
        ValueError: The reason alone, of one line, if it cannot be read or decoded.
    """
    file = io.BytesIO(image) if isinstance(image, bytes) else image
    try:
        return load_image(file)
    except ValueError as error:
        raise ValueError(str(error).removeprefix(f"{file}: ")) from error


def reason(image: str | bytes, decoded: bool = False) -> str:
    """Why an image, as `load_any` takes it, cannot be decoded; empty if Pillow can and `decoded`.

    Args:
        image: As `load_any` takes it.
        decoded: Bool, whether TensorFlow decoded it.
    """
    try:
        load_any(image)
    except ValueError as error:
        return str(error)
    return "" if decoded else "TensorFlow cannot decode it"


def with_channels(pixels, channels: int):
    """1 channel as 3, 3 as 1 with Pillow's weights; others are left as they are."""
    if pixels.shape[-1] == channels:
        return pixels
    if (pixels.shape[-1], channels) == (1, 3):
        return tf.repeat(pixels, 3, axis=-1)
    if (pixels.shape[-1], channels) == (3, 1):
        return grey(pixels)
    raise ValueError(
        f"images: expected {channels} channels, as the model takes, got {pixels.shape[-1]}"
    )


def grey(pixels):
    """uint8 (..., 3 or 1) to uint8 (..., 1), weighted and rounded as Pillow does."""
    if pixels.shape[-1] == 1:
        return pixels
    red, green, blue = tf.split(tf.cast(pixels, tf.int32), 3, axis=-1)
    return tf.cast((red * 19595 + green * 38470 + blue * 7471 + 2**15) // 2**16, tf.uint8)


def _decode_jpeg(image, channels, choose_box):
    # As Pillow decodes.
    options = {"channels": channels, "dct_method": "INTEGER_ACCURATE"}
    if choose_box is None:
        return tf.io.decode_jpeg(image, **options)
    box = choose_box(tf.io.extract_jpeg_shape(image)[:2])
    return tf.io.decode_and_crop_jpeg(image, box, **options)


def _decode_other(image, channels):
    png = tf.strings.substr(image, 0, 8) == b"\x89PNG\r\n\x1a\n"
    return tf.cond(
        png,
        # Its own grey has other weights.
        lambda: with_channels(tf.io.decode_png(image, 3), channels),
        lambda: _decode_with_pillow(image, channels),
    )


def _decode_with_pillow(image, channels):
    def decoded(image):
        try:
            pixels = load_image(io.BytesIO(image)).convert("RGB" if channels == 3 else "L")
        except ValueError:
            return np.zeros((0, 0, channels), "uint8")
        return np.asarray(pixels).reshape(*pixels.size[::-1], channels)

    pixels = python_call(decoded, [image], tf.uint8, stateful=False)
    # Not raised in Python, whose traceback TensorFlow would print for every bad image.
    decoded = tf.debugging.Assert(tf.size(pixels) > 0, ["Pillow cannot decode the image"])
    with tf.control_dependencies([decoded]):
        return tf.ensure_shape(pixels, (None, None, channels))


def _needs_pillow(image):
    """Whether a JPEG file is in CMYK, or says that it has to be turned or mirrored."""

    def turned(image):
        with Image.open(io.BytesIO(image), formats=("JPEG",)) as opened:
            return opened.getexif().get(ExifTags.Base.Orientation, 1) not in (0, 1)

    parts = [tf.strings.substr(image, place, 6) == b"Exif\0\0" for place in _EXIF_PLACES]
    result = tf.cond(
        tf.reduce_any(parts),
        lambda: python_call(turned, [image], tf.bool, stateful=False),
        lambda: False,
    )
    return tf.ensure_shape(result, ()) | (tf.io.extract_jpeg_shape(image)[2] == 4)


def _cropped(pixels, choose_box):
    if choose_box is None:
        return pixels
    top, left, height, width = tf.unstack(choose_box(tf.shape(pixels)[:2]))
    return pixels[top : top + height, left : left + width]
