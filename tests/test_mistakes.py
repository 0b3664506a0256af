"""Mistakes that are easily made: each is answered in one line that says what was expected."""

import dataclasses
import gzip
import json
import os
import shutil
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import keras_t2t
from keras_t2t.data import open_source
from keras_t2t.data.idx import read_idx
from keras_t2t.inference.metadata import Metadata
from keras_t2t.weights.checkpoint import read_checkpoint, write_checkpoint

pytestmark = pytest.mark.above_backends

SMALL = {"token_dim": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "classes": 4}
ARRAYS = {"a": np.arange(3.0)}


def model(**arguments):
    return keras_t2t.T2TViT(**{"input_shape": (32, 32, 3), **SMALL, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 10**12}, "`classes` must be at most"),
        ({"embed_dim": 10**9}, "`embed_dim` must be at most"),
        ({"token_dim": 10**9}, "`dim` must be at most"),
        ({"depth": 10**9}, "`depth` must be at most"),
        ({"flavor": "dense", "depth": (1, 10**9)}, "`depth` must be at most"),
        ({"flavor": "dense", "depth": (1, 1), "growth_rate": 10**9}, "`growth_rate` must be at"),
        ({"input_shape": (10**6, 10**6, 3)}, "pixels"),
        ({"input_shape": (3, 64, 64)}, r"channels last, perhaps \(64, 64, 3\)"),
        ({"input_shape": (1, 28, 28)}, r"channels last, perhaps \(28, 28, 1\)"),
        ({"weights": "imagenet"}, "keras_t2t.T2TViT14, and by keras_t2t.create"),
    ],
    ids=str,
)
def test_models(arguments, message):
    with pytest.raises(ValueError, match=message):
        model(**arguments)


@pytest.mark.parametrize("arguments", [{"classes": 10}, {"classes": 1001}], ids=str)
def test_another_number_of_classes_is_told_before_the_download(arguments, monkeypatch):
    monkeypatch.setattr("keras_t2t.weights.pretrained.fetch", lambda _: pytest.fail("downloads"))
    with pytest.raises(ValueError, match="which has 1000. Pass skip_head=True"):
        keras_t2t.T2TViT7(weights="imagenet", **arguments)


def test_weights_of_another_size(tmp_path):
    model().save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ValueError, match=r"keras_t2t.create\(..., weights=path\)"):
        model(input_shape=(48, 48, 3)).load_weights(tmp_path / "a.weights.h5")


def encrypted(path):
    """Says of each of its entries that it is."""
    content = bytearray(path.read_bytes())
    for mark, flag in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = -1
        while (place := content.find(mark, place + 1)) >= 0:
            content[place + flag] |= 1
    path.write_bytes(content)
    return path


def saved_model(path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(path)
    return path


def torch_file_renamed(folder):
    write_checkpoint(folder / "a.pth", ARRAYS)
    return shutil.move(folder / "a.pth", folder / "a.npz")


@pytest.mark.parametrize(
    "made",
    [
        torch_file_renamed,
        lambda folder: encrypted(write_checkpoint(folder / "a.npz", ARRAYS)),
        lambda folder: encrypted(write_checkpoint(folder / "a.pth", ARRAYS)),
        lambda folder: encrypted(saved_model(folder / "a.keras")),
        lambda folder: folder.joinpath("a.npz").write_bytes(b"") or folder / "a.npz",
    ],
)
def test_weights_files(made, tmp_path):
    pytest.importorskip("torch")
    path = made(tmp_path)
    read = keras_t2t.Predictor if path.suffix == ".keras" else read_checkpoint
    with pytest.raises(ValueError, match=str(path)) as told:
        read(path)
    assert "\n" not in str(told.value)


def test_damaged_gzip(tmp_path):
    content = b"\0\0\x08\1" + (1000).to_bytes(4, "big") + bytes(range(250)) * 4
    packed = gzip.compress(content)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(packed)
    assert read_idx(path).shape == (1000,)
    for place in range(len(packed)):
        path.write_bytes(packed[:place] + bytes([packed[place] ^ 0x55]) + packed[place + 1 :])
        try:
            assert read_idx(path).tobytes() == content[8:]  # in the time or the name
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", "1", '{"name": 1}', "[" * 10**5])
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_descriptions_of_tfds(name, text, tmp_path):
    subset = "examples/data/fashion_mnist_subset/1.0.0"
    shutil.copytree(subset, tmp_path / "1.0.0")
    (tmp_path / "1.0.0" / name).write_text(text)
    with pytest.raises(ValueError, match=str(tmp_path)) as told:
        open_source(tmp_path / "1.0.0", "train")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 0, 5, 3), "uint8"),
        np.zeros((2, 5, 0, 3), "uint8"),
        [np.zeros((0, 5, 3), "uint8")],
        [np.zeros((5, 0), "uint8")],
        [Image.new("RGB", (0, 5))],
    ],
)
def test_images_without_pixels(images):
    predictor = keras_t2t.Predictor(model(preprocessing="imagenet"))
    with pytest.raises(ValueError, match="images?: expected"):
        predictor.predict(images)
    if isinstance(images, np.ndarray):
        with pytest.raises(ValueError, match="images: expected at least one pixel"):
            open_source((images, np.arange(2)), "train")


def test_labels_above_the_class_count(tmp_path):
    subset = tmp_path / "1.0.0"
    shutil.copytree("examples/data/fashion_mnist_subset/1.0.0", subset)
    path = subset / "features.json"
    described = json.loads(path.read_text())
    (label,) = (
        feature
        for feature in described["featuresDict"]["features"].values()
        if "classLabel" in feature
    )
    label["classLabel"]["numClasses"] = "7"
    path.write_text(json.dumps(described))
    for names in subset.glob("*.labels.txt"):
        os.remove(names)
    with pytest.raises(ValueError, match="expected labels below 7"):
        open_source(subset, "train")


METADATA = Metadata("a", preprocessing=keras_t2t.Preprocessing(32, 32))


def deep(text):
    return "[" * 10**5


def without_a_name(text):
    return json.dumps({key: value for key, value in json.loads(text).items() if key != "name"})


def changed(**values):
    return lambda text: json.dumps(json.loads(text) | values)


@pytest.mark.parametrize(
    "change",
    [
        deep,
        without_a_name,
        lambda text: "",
        lambda text: "null",
        changed(keras_t2t=2),
        changed(pixels="yes"),
        changed(output="scores"),
        changed(classes=[["a"]]),
        changed(classes=7),
        changed(preprocessing={"height": 0}),
        changed(preprocessing={"heights": 32}),
        changed(colour="red"),
    ],
)
def test_metadata(change):
    assert Metadata.from_json(METADATA.to_json(), "a") == METADATA
    with pytest.raises(ValueError, match="a.onnx: its metadata, keras_t2t.json, cannot be read"):
        Metadata.from_json(change(METADATA.to_json()), "a.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": (("a", "b"),) * 4}, "tell of 4 classes, the model of 3"),
        ({"preprocessing": keras_t2t.Preprocessing(32, 64)}, r"images \(32, 64, 3\), the model of"),
    ],
)
def test_metadata_of_another_model(change, message, tmp_path):
    pytest.importorskip("onnx")
    helper = pytest.importorskip("onnx.helper")
    shape, outputs = ["n", 32, 32, 3], ["n", 3]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2], keepdims=0)],
        "a",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, outputs)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    told = dataclasses.replace(METADATA, **change)
    helper.set_model_props(proto, {"keras_t2t.json": told.to_json()})
    path = tmp_path / "a.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match=message):
        keras_t2t.Predictor(path)


def test_a_metadata_zip_that_unpacks_to_much(tmp_path):
    """Behind a LiteRT model; it is refused by the size that it declares."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    tensorflow = pytest.importorskip("tensorflow")
    function = tensorflow.function(
        lambda x: tensorflow.reduce_mean(x, (1, 2)),
        input_signature=[tensorflow.TensorSpec((1, 8, 8, 3))],
    )
    converter = tensorflow.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()]
    )
    path = tmp_path / "a.tflite"
    # The model is to name what is in the zip, as ours do.
    path.write_bytes(converter.convert() + b"keras_t2t.json")
    litert.Interpreter(str(path)).allocate_tensors()
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("keras_t2t.json", " " * 2**25)
    assert path.stat().st_size < 2**17
    with pytest.raises(ValueError, match="keras_t2t.json: expected at most 16777216 bytes"):
        keras_t2t.Predictor(path)
