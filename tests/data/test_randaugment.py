"""RandAugment's operations against Pillow, and its draws against the recipe."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from keras_t2t.data import randaugment
from keras_t2t.data.augment import Augmentation
from keras_t2t.data.randaugment import OPERATIONS, rand_augment

pytestmark = pytest.mark.tensorflow

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
FILL = (124, 116, 104)
MAGNITUDES = (0.0, 3.25, 8.5, 9.0, 10.0)


def table(function):
    return lambda image, level, sign: image.point(
        [function(value, level) for value in range(256)] * len(image.getbands())
    )


def moved(matrix):
    """A transform by `matrix(signed level, width, height)`."""

    def apply(image, level, sign):
        return image.transform(
            image.size,
            Image.Transform.AFFINE,
            matrix(sign * level, *image.size),
            resample=Image.Resampling.BILINEAR,
            fillcolor=FILL if image.mode == "RGB" else FILL[0],
        )

    return apply


def rotated(image, level, sign):
    fill = FILL if image.mode == "RGB" else FILL[0]
    return image.rotate(sign * level * 30, Image.Resampling.BILINEAR, fillcolor=fill)


def enhanced(kind):
    return lambda image, level, sign: kind(image).enhance(1 + sign * (level * 0.9))


# timm 0.3.4's `auto_augment.py`, `_RAND_INCREASING_TRANSFORMS`, on today's Pillow, whose
# `posterize` refuses to keep no bit at all.
PILLOW = {
    "AutoContrast": lambda image, level, sign: ImageOps.autocontrast(image),
    "Equalize": lambda image, level, sign: ImageOps.equalize(image),
    "Invert": lambda image, level, sign: ImageOps.invert(image),
    "Rotate": rotated,
    "Posterize": table(lambda value, level: value & ~(2 ** (8 - (4 - int(level * 4))) - 1)),
    "Solarize": table(lambda v, level: v if v < 256 - int(level * 256) else 255 - v),
    "SolarizeAdd": table(lambda v, level: min(255, v + int(level * 110)) if v < 128 else v),
    "Color": enhanced(ImageEnhance.Color),
    "Contrast": enhanced(ImageEnhance.Contrast),
    "Brightness": enhanced(ImageEnhance.Brightness),
    "Sharpness": enhanced(ImageEnhance.Sharpness),
    "ShearX": moved(lambda level, width, height: (1, level * 0.3, 0, 0, 1, 0)),
    "ShearY": moved(lambda level, width, height: (1, 0, 0, level * 0.3, 1, 0)),
    "TranslateX": moved(lambda level, width, height: (1, 0, level * 0.45 * width, 0, 1, 0)),
    "TranslateY": moved(lambda level, width, height: (1, 0, 0, 0, 1, level * 0.45 * height)),
}
# timm's names, of classes' kind, in place of the functions' own.
OURS = {
    "".join(part.capitalize() for part in function.__name__.split("_")): function
    for function in OPERATIONS
}
GEOMETRIC = {"Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY"}


@pytest.fixture(scope="module")
def images():
    colour = Image.open(PHOTOS / "china.jpg").resize((112, 84))
    grey = Image.open(PHOTOS / "flower.jpg").convert("L").resize((61, 75))
    # Equalize and AutoContrast have nothing to go by here.
    flat = Image.new("RGB", (40, 30), (7, 200, 90))
    return colour, grey, flat


def apply(operation, image, strength):
    pixels = np.asarray(image)
    fill = FILL if image.mode == "RGB" else FILL[:1]
    pixels = tf.constant(pixels.reshape(*pixels.shape[:2], len(fill)))
    result = operation(pixels, tf.constant(strength, tf.float64), fill)
    assert result.dtype == tf.uint8
    return result.numpy().reshape(np.asarray(image).shape).astype(int)


def test_the_operations_are_timms():
    assert list(OURS) == list(PILLOW)


@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_equals_pillow(name, images):
    """To the last bit; where pixels move, Pillow's doubles and our floats may differ by 1 of 255.

    Then the mean difference is at most 0.07.
    """
    for image in images:
        for level in np.array(MAGNITUDES) / 10:
            for sign in (-1, 1):
                expected = np.asarray(PILLOW[name](image, level, sign)).astype(int)
                difference = np.abs(apply(OURS[name], image, sign * level) - expected)
                assert difference.max() <= (name in GEOMETRIC)
                assert difference.mean() <= 0.07


@pytest.fixture(scope="module")
def drawn():
    """What 6,000 draws would apply: an operation's number and its strength.

    In place of the operations stand functions that write both into the image.
    """

    def writer(number):
        def write(image, strength, fill):
            values = tf.stack([tf.cast(number + 1, tf.float64), strength])
            return tf.concat([image[2:], values], 0)

        return write

    with pytest.MonkeyPatch.context() as patch:
        writers = [writer(number) for number in range(len(OPERATIONS))]
        patch.setattr(randaugment, "OPERATIONS", writers)

        def one(seed):
            empty = tf.zeros((4,), tf.float64)
            return rand_augment(empty, tf.stack([7, seed]), Augmentation(), FILL)

        results = tf.data.Dataset.range(3000).map(lambda seed: one(seed)).batch(3000)
        return next(iter(results)).numpy().reshape(6000, 2)


def test_each_operation_is_applied_equally_often(drawn):
    numbers = drawn[:, 0].astype(int)
    counts = np.bincount(numbers, minlength=16)[1:]
    # One half of 6,000 draws over 15 operations: 200 each, standard deviation 14.
    assert abs(counts.sum() - 3000) < 4 * 39
    assert np.all(np.abs(counts - 200) < 4 * 14)


def test_strengths_follow_the_recipe(drawn):
    strengths = drawn[drawn[:, 0] > 0, 1]
    magnitudes = 10 * np.abs(strengths)
    # Of Normal(9, 0.5) the part above 10 is cut to 10.
    assert magnitudes.max() == 10
    assert np.mean(magnitudes == 10) == pytest.approx(0.0228, abs=4 * 0.0027)
    assert np.median(magnitudes) == pytest.approx(9, abs=4 * 0.5 * 1.25 / 3000**0.5)
    quarter = np.quantile(magnitudes, 0.75) - np.median(magnitudes)
    assert quarter == pytest.approx(0.5 * 0.6745, abs=0.05)
    assert np.mean(strengths < 0) == pytest.approx(0.5, abs=4 * 0.0091)


def test_no_probability_changes_nothing(images):
    pixels = tf.constant(np.asarray(images[0]))
    still = Augmentation(randaugment_probability=0.0)
    for seed in range(3):
        np.testing.assert_array_equal(rand_augment(pixels, [0, seed], still, FILL), pixels)
