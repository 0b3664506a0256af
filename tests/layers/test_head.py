"""A model carries the names of its classes, wherever its head goes."""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_t2t
from keras_t2t.layers import Dense
from keras_t2t.weights.keras_files import read_model

NAMES = ("ant", "bee", "n01440764")


def small(**arguments):
    architecture = {"token_dim": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    given = {"classes": 3, "class_names": NAMES, "preprocessing": "imagenet", **arguments}
    return keras_t2t.T2TViT((32, 32, 3), **architecture, **given)


def images():
    return np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")


def test_through_a_file(tmp_path):
    model = small()
    keras_t2t.fuse(model).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert keras_t2t.model_class_names(loaded) == NAMES
    expected = model.predict(images(), verbose=0)
    np.testing.assert_array_equal(loaded.predict(images(), verbose=0), expected)
    # Of an ImageNet class the id tells the name.
    expected = [("0", "ant"), ("1", "bee"), ("n01440764", "tench")]
    assert keras_t2t.Predictor(tmp_path / "model.keras").classes == expected


def test_through_a_fused_model_a_clone_and_a_larger_model():
    model = small(classifier_activation=None)
    for other in (
        keras_t2t.fuse(model),
        keras.models.clone_model(model),
        keras.Sequential([model.input, keras.Sequential([model]), keras.layers.Softmax()]),
    ):
        assert keras_t2t.model_class_names(other) == NAMES
        assert [name for _, name in keras_t2t.Predictor(other).classes] == ["ant", "bee", "tench"]


def test_labels_that_are_given_win():
    named = keras_t2t.Predictor(small(), labels=["x", "y", "z"])
    assert [name for _, name in named.classes] == ["x", "y", "z"]
    with pytest.raises(ValueError, match="labels: expected 3, one for each output"):
        keras_t2t.Predictor(small(), labels=["x", "y"])


@pytest.mark.parametrize("classes", [3, 5])
def test_another_head_does_not_have_them(classes):
    model = small()
    features = model.get_layer("token_pooling").output
    other = keras.Model(model.input, keras.layers.Dense(classes)(features))
    assert keras_t2t.model_class_names(other) is None
    behind = keras.Sequential([model.input, model, keras.layers.Dense(5)])
    assert keras_t2t.model_class_names(behind) is None
    assert [name for _, name in keras_t2t.Predictor(behind).classes] == list("01234")
    for features in (small(include_top=False), keras_t2t.feature_pyramid(model)):
        assert keras_t2t.model_class_names(features) is None


def test_a_model_is_the_same_without_them(tmp_path):
    """Layers, paths, and weights in files, those of Keras' own Dense layer too."""
    model, other = small(seed=1), small(class_names=None, seed=2)
    assert keras_t2t.model_class_names(other) is None
    assert [layer.name for layer in model.layers] == [layer.name for layer in other.layers]
    assert [weight.path for weight in model.weights] == [weight.path for weight in other.weights]
    head = keras.layers.Dense(3, "softmax", name="head")
    plain = keras.Model(other.input, head(other.get_layer("token_pooling").output))
    expected = model.predict(images(), verbose=0)
    for source, target in ((model, plain), (plain, model)):
        source.save_weights(tmp_path / "model.weights.h5")
        for weight in target.weights:
            weight.assign(np.zeros(weight.shape))
        target.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_array_equal(target.predict(images(), verbose=0), expected)


def test_may_be_replaced_and_taken_away(tmp_path):
    model = small()
    model.get_layer("head").class_names = ["x", "y", "z"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert keras_t2t.model_class_names(loaded) == ("x", "y", "z")
    loaded.get_layer("head").class_names = None
    assert keras_t2t.model_class_names(loaded) is None
    with pytest.raises(ValueError, match="must be 3, one for each output .* Received: 10"):
        loaded.get_layer("head").class_names = "cifar10"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["ant", "bee"],
            "names of classes must be 3, one for each output of the layer 'head'. R",
        ),
        (["ant", "bee", 3], "labels: expected names, all of them strings, got 3"),
        ("mnist", 'labels: expected "imagenet", "cifar10", "cifar100" or a list of names'),
    ],
)
def test_wrong_names(names, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        small(class_names=names)
    # Nor does a file bring them in.
    path, wrong = tmp_path / "model.keras", tmp_path / "wrong.keras"
    small().save(path)
    with zipfile.ZipFile(path) as file, zipfile.ZipFile(wrong, "w") as changed:
        for name in file.namelist():
            content = file.read(name)
            if name == "config.json":
                config = json.loads(content)
                (head,) = (x for x in config["config"]["layers"] if x["name"] == "head")
                head["config"]["class_names"] = names
                content = json.dumps(config)
            changed.writestr(name, content)
    with pytest.raises(ValueError, match=f"(?s)wrong.keras cannot be read.*{message}"):
        read_model(wrong)


def test_lists_of_the_package():
    assert Dense(1000, class_names="imagenet").class_names[:2] == ("n01440764", "n01443537")
    assert Dense(10, class_names="cifar10").class_names[:2] == ("airplane", "automobile")


def test_a_quantised_head_keeps_them(tmp_path):
    """Which Keras quantises as its own."""
    model = small()
    model.quantize("int8")
    assert "int8" in {weight.dtype for weight in model.get_layer("head").weights}
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert keras_t2t.model_class_names(loaded) == NAMES
    found, expected = (m.predict(images(), verbose=0) for m in (loaded, model))
    np.testing.assert_allclose(found, expected, atol=1e-6)
