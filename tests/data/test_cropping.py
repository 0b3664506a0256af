"""Random crops, erasing and flips against their definitions and Pillow."""

from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from PIL import Image

from keras_t2t.data.augment import Augmentation
from keras_t2t.data.cropping import padded_crop, random_box, random_flip, resize
from keras_t2t.data.erasing import random_erasing

pytestmark = pytest.mark.tensorflow

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"


def draw(function, number=2000):
    """`function(seed)` for many seeds, as NumPy."""
    seeds = tf.data.Dataset.range(number).map(lambda seed: function(tf.stack([5, seed])))
    return next(iter(seeds.batch(number))).numpy()


def test_boxes_follow_the_recipe():
    boxes = draw(
        lambda seed: random_box(tf.constant([300, 400]), seed, (0.08, 1.0), (3 / 4, 4 / 3))
    )
    top, left, height, width = boxes.T
    assert np.all((top >= 0) & (left >= 0) & (top + height <= 300) & (left + width <= 400))
    area, ratio = height * width / 120_000, width / height
    assert 0.08 * 0.98 < area.min() and area.max() <= 1
    assert 0.74 < ratio.min() < 0.76 and 1.32 < ratio.max() < 1.35
    # Boxes that do not fit are drawn anew, so only small ones are uniform.
    small = area[area < 0.5]
    assert small.mean() == pytest.approx(0.29, abs=4 * 0.1212 / small.size**0.5)
    logarithm = np.log(ratio[area < 0.5])
    assert abs(logarithm.mean()) < 4 * 0.166 / logarithm.size**0.5
    # Every place is equally likely.
    for place, free in ((top, 300 - height), (left, 400 - width)):
        share = ((place + 0.5) / (free + 1))[area < 0.5]
        assert share.mean() == pytest.approx(0.5, abs=4 * 0.289 / share.size**0.5)


@pytest.mark.parametrize(
    "shape, expected",
    [((10, 100), (0, 43, 10, 13)), ((100, 10), (43, 0, 13, 10)), ((50, 50), (0, 0, 50, 50))],
)
def test_where_no_box_fits_the_largest_central_one_is_taken(shape, expected):
    """An area above the whole can never fit."""
    box = random_box(tf.constant(shape), [0, 0], (1.5, 1.6), (3 / 4, 4 / 3))
    np.testing.assert_array_equal(box, expected)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 30)])
def test_a_box_of_a_tiny_image_is_not_empty(shape):
    boxes = draw(lambda seed: random_box(tf.constant(shape), seed, (0.01, 1.0), (0.5, 2.0)), 50)
    assert boxes[:, 2:].min() == 1
    assert np.all(boxes[:, :2] + boxes[:, 2:] <= shape)


@pytest.mark.parametrize("size", [(224, 224), (60, 90), (300, 500)])
@pytest.mark.parametrize("bicubic", [True, False])
def test_resize_is_pillows(size, bicubic):
    """Up to its rounding between columns and rows: of 255 in the mean 0.3, at most 2.

    There it also clips, which bicubic overshoot at sharp edges shows: at most 8.
    """
    image = Image.open(PHOTOS / "flower.jpg").crop((100, 80, 420, 300))
    kind = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    expected = np.asarray(image.resize(size[::-1], kind)).astype(int)
    result = resize(tf.constant(np.asarray(image)), size, tf.constant(bicubic))
    assert result.dtype == tf.uint8
    difference = np.abs(result.numpy().astype(int) - expected)
    assert difference.mean() <= 0.3
    assert difference.max() <= (8 if bicubic else 2)


def test_padded_crop_reaches_every_place():
    image = tf.constant(np.arange(1, 26, dtype="uint8").reshape(5, 5, 1))
    padded = np.pad(image.numpy()[..., 0], 2)
    crops = draw(lambda seed: padded_crop(image, 2, seed), 400)[..., 0]
    places = {
        padded[top : top + 5, left : left + 5].tobytes() for top in range(5) for left in range(5)
    }
    assert {crop.tobytes() for crop in crops} == places
    np.testing.assert_array_equal(padded_crop(image, 0, [0, 0]), image)


def test_flip():
    image = tf.constant(np.arange(12, dtype="uint8").reshape(2, 2, 3))
    results = draw(lambda seed: random_flip(image, 0.25, seed), 1000)
    flipped = np.all(results == image.numpy()[:, ::-1], axis=(1, 2, 3))
    assert np.all(results[~flipped] == image.numpy())
    assert flipped.mean() == pytest.approx(0.25, abs=4 * 0.0137)


def test_erasing_follows_the_recipe():
    image = tf.fill((60, 80, 3), 9.0)
    results = draw(lambda seed: random_erasing(image, seed, Augmentation()), 1000)
    noise = np.any(results != 9, axis=-1)
    erased = noise.any(axis=(1, 2))
    assert erased.mean() == pytest.approx(0.25, abs=4 * 0.0137)
    areas, ratios = [], []
    for mask in noise[erased]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == rows.size * columns.size
        assert np.ptp(rows) == rows.size - 1 and np.ptp(columns) == columns.size - 1
        areas.append(mask.mean())
        ratios.append(rows.size / columns.size)
    assert 0.015 < min(areas) and max(areas) < 0.35
    assert 0.25 < min(ratios) < 0.5 and 2 < max(ratios) < 3.6
    values = results[noise]
    assert abs(values.mean()) < 4 / values.size**0.5
    assert values.std() == pytest.approx(1, abs=4 / (2 * values.size) ** 0.5)
    # A value for each channel, none repeated.
    assert abs(np.corrcoef(values[:, 0], values[:, 1])[0, 1]) < 4 / len(values) ** 0.5


def test_what_fits_nowhere_is_not_erased():
    image = tf.zeros((3, 3, 1))
    always = Augmentation(erasing=1.0, erasing_area=(0.99, 1.0), erasing_ratio=(1.0, 1.0))
    np.testing.assert_array_equal(random_erasing(image, [0, 0], always), image)
