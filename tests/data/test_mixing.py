"""Mixup, CutMix and label smoothing against NumPy and closed forms."""

import numpy as np
import pytest
import tensorflow as tf

from keras_t2t.data.augment import Augmentation
from keras_t2t.data.mixing import beta, blend, cut, cutmix_box, mix, smoothed

pytestmark = pytest.mark.tensorflow

CLASSES = 7


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6, 12, 10, 3)).astype("float32")
    return images, np.array([0, 1, 2, 3, 4, 6])


def test_smoothing():
    """timm's `one_hot(target, classes, on=1 - s + s / n, off=s / n)`."""
    result = smoothed([2, 0], 4, 0.1).numpy()
    expected = [[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    np.testing.assert_array_equal(smoothed([1], 3, 0.0), [[0, 1, 0]])


def test_mixup_is_a_blend_with_the_reversed_batch(batch):
    images, labels = batch[0], np.eye(CLASSES, dtype="float32")[batch[1]]
    mixed, targets = blend(tf.constant(images), tf.constant(labels), 0.3)
    np.testing.assert_allclose(mixed, 0.3 * images + 0.7 * images[::-1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(targets, 0.3 * labels + 0.7 * labels[::-1], rtol=1e-6)


@pytest.mark.parametrize("box", [(2, 7, 3, 9), (0, 12, 0, 10), (5, 5, 2, 8), (8, 12, 0, 4)])
def test_cutmix_takes_the_box_from_the_reversed_batch(batch, box):
    images, labels = batch[0], np.eye(CLASSES, dtype="float32")[batch[1]]
    top, bottom, left, right = box
    expected = images.copy()
    expected[:, top:bottom, left:right] = images[::-1, top:bottom, left:right]
    own = 1 - (bottom - top) * (right - left) / 120
    mixed, targets = cut(tf.constant(images), tf.constant(labels), tf.constant(box))
    np.testing.assert_array_equal(mixed, expected)
    np.testing.assert_allclose(targets, own * labels + (1 - own) * labels[::-1], atol=1e-6)


def test_a_box_covers_its_share_around_its_centre():
    """timm's `rand_bbox`: sides cut to integers, halved, clipped to the image."""
    boxes = [cutmix_box(0.64, (50, 100), [0, seed]) for seed in range(200)]
    heights, widths = [], []
    for box in np.array([[int(side) for side in box] for box in boxes]):
        top, bottom, left, right = box
        assert 0 <= top <= bottom <= 50 and 0 <= left <= right <= 100
        # sqrt(1 - 0.64) of each side, 30 x 60, or what the edge leaves of it.
        assert bottom - top == 30 or top == 0 or bottom == 50
        assert right - left == 60 or left == 0 or right == 100
        heights.append(bottom - top)
        widths.append(right - left)
    assert max(heights) == 30 and min(heights) >= 15
    assert max(widths) == 60 and min(widths) >= 30


@pytest.mark.parametrize("alpha", [0.8, 1.0, 0.01])
def test_beta(alpha):
    """Mean 1/2 and variance 1 / (4 (2 alpha + 1)); finite also where the gammas vanish."""
    values = tf.data.Dataset.range(2000).map(lambda seed: beta(alpha, tf.stack([3, seed])))
    values = next(iter(values.batch(2000))).numpy()
    variance = 1 / (4 * (2 * alpha + 1))
    assert np.all((values >= 0) & (values <= 1))
    assert values.mean() == pytest.approx(0.5, abs=4 * (variance / 2000) ** 0.5)
    assert values.var() == pytest.approx(variance, rel=0.1)


def kind_of(batch, augmentation, seed):
    """(kind, own share) that the labels of a mixed batch tell; the images must agree."""
    images, labels = tf.constant(batch[0]), tf.constant(batch[1])
    mixed, targets = (x.numpy() for x in mix(images, labels, CLASSES, [1, seed], augmentation))
    own = targets[0, 0]
    one_hot = np.eye(CLASSES, dtype="float32")[batch[1]]
    expected = own * one_hot + (1 - own) * one_hot[::-1]
    np.testing.assert_allclose(targets, expected, atol=1e-6)
    if np.array_equal(mixed, batch[0]):
        return "none", own
    same = mixed == batch[0]
    if same.any() or np.array_equal(mixed, batch[0][::-1]):
        assert same.mean() == pytest.approx(own, abs=1e-6)
        return "cutmix", own
    np.testing.assert_allclose(
        mixed, own * batch[0] + (1 - own) * batch[0][::-1], rtol=1e-4, atol=1e-5
    )
    return "mixup", own


def test_choices_follow_the_probabilities(batch):
    augmentation = Augmentation(label_smoothing=0.0, mix_probability=0.75, switch_probability=0.25)
    kinds = [kind_of(batch, augmentation, seed)[0] for seed in range(200)]
    # Standard deviations: 6.1 for 150, 5.5 for 37 or more; an empty CutMix box counts as none.
    assert abs(kinds.count("none") - 50) < 4 * 6.5
    assert abs(kinds.count("cutmix") - 37) < 4 * 5.5
    assert abs(kinds.count("mixup") - 113) < 4 * 7


@pytest.mark.parametrize("on, off", [("mixup", "cutmix"), ("cutmix", "mixup")])
def test_one_of_both_can_be_off(batch, on, off):
    augmentation = Augmentation(label_smoothing=0.0, **{off: 0.0})
    kinds = {kind_of(batch, augmentation, seed)[0] for seed in range(8)}
    assert on in kinds and off not in kinds


def test_without_mixing_only_labels_change(batch):
    augmentation = Augmentation(mixup=0.0, cutmix=0.0)
    images, labels = mix(*map(tf.constant, batch), CLASSES, [0, 0], augmentation)
    np.testing.assert_array_equal(images, batch[0])
    np.testing.assert_allclose(labels, smoothed(batch[1], CLASSES, 0.1))
