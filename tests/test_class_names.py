"""Class names and decoded predictions."""

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_t2t.class_names import carried_names, class_names, decode_predictions


def test_imagenet_is_in_the_order_of_the_data_set():
    tfds = Path(importlib.util.find_spec("tensorflow_datasets").origin).parent
    expected = (tfds / "datasets/imagenet2012/labels.txt").read_text().split()
    assert [class_id for class_id, _ in class_names("imagenet")] == expected


def test_imagenet_names_as_in_keras_applications():
    names = class_names("imagenet")
    known = {
        0: ("n01440764", "tench"),
        2: ("n01484850", "great_white_shark"),
        134: ("n02012849", "crane"),
        281: ("n02123045", "tabby"),
        388: ("n02510455", "giant_panda"),
        517: ("n03126707", "crane"),
        985: ("n11939491", "daisy"),
        999: ("n15075141", "toilet_tissue"),
    }
    assert {index: names[index] for index in known} == known
    # Besides the two cranes, the two maillots.
    assert len({name for _, name in names}) == 998


@pytest.mark.parametrize(("labels", "count"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_alphabetical(labels, count):
    ids, names = zip(*class_names(labels), strict=True)
    assert len(set(names)) == count
    assert list(names) == sorted(names)
    assert ids == tuple(map(str, range(count)))


def test_imagenet_classes_go_by_their_ids():
    """As the folders of ImageNet, and of its subsets, are called."""
    expected = [("n03126707", "crane"), ("1", "own"), ("n02012849", "crane")]
    assert class_names(["n03126707", "own", "n02012849"]) == expected


@pytest.mark.parametrize("labels", ["imagenet", "cifar10", ["own", "n02012849", "2", ""]])
def test_what_a_model_carries_tells_the_same(labels):
    names = carried_names(labels)
    assert all(isinstance(name, str) for name in names)
    assert class_names(names) == class_names(labels)
    assert carried_names(names) == names


@pytest.mark.parametrize("wrong", [3, None, b"ant", ["ant"]])
def test_names_are_strings(wrong):
    with pytest.raises(ValueError, match="labels: expected names, all of them strings, got"):
        class_names(["ant", wrong])


def test_decode_best_first():
    scores = np.zeros((2, 1000), "float32")
    scores[0, [281, 285, 2]] = 0.5, 0.3, 0.1
    scores[1, 999] = 1
    first, second = decode_predictions(keras.ops.convert_to_tensor(scores), top=3)
    assert [(class_id, name) for class_id, name, _ in first] == [
        ("n02123045", "tabby"),
        ("n02124075", "Egyptian_cat"),
        ("n01484850", "great_white_shark"),
    ]
    np.testing.assert_allclose([score for _, _, score in first], [0.5, 0.3, 0.1])
    # Of equal scores the first class stands first.
    assert [name for _, name, _ in second] == ["toilet_tissue", "tench", "goldfish"]


def test_decode_other_labels():
    scores = np.array([[0.1, 0.7, 0.2]])
    assert decode_predictions(scores, top=9, labels=["a", "b", "c"]) == [
        [("1", "b", 0.7), ("2", "c", 0.2), ("0", "a", 0.1)]
    ]
    assert decode_predictions(np.eye(10)[[3]], top=1, labels="cifar10") == [[("3", "cat", 1.0)]]


@pytest.mark.parametrize(
    ("preds", "options", "message"),
    [
        (np.zeros((1, 10)), {}, r"preds: expected shape \(batch, 1000\), .* got \(1, 10\)"),
        (np.zeros(1000), {}, r"preds: expected shape \(batch, 1000\), .* got \(1000,\)"),
        (np.zeros((1, 1000)), {"top": 0}, "top: expected at least 1, got 0"),
        (np.zeros((1, 10)), {"labels": "mnist"}, "labels: expected .* got 'mnist'"),
    ],
)
def test_decode_errors(preds, options, message):
    with pytest.raises(ValueError, match=message):
        decode_predictions(preds, **options)
