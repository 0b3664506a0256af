"""`keras_t2t.export`: what it refuses, what it leaves behind, what it says."""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_t2t
from keras_t2t.exporting import exporter
from tests.exporting.trained import SHAPE, inputs, trained_model

tensorflow = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def model():
    return trained_model()


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


@tensorflow
def test_file_and_report(model, tmp_path, capsys):
    found = keras_t2t.export(model, tmp_path / "model.tflite", images=inputs(5), threads=1)
    assert listing(tmp_path) == ["model.tflite", "model.tflite.json"]
    assert json.loads((tmp_path / "model.tflite.json").read_text()) == found
    assert found["bytes"] == (tmp_path / "model.tflite").stat().st_size
    assert found["images"] == "5 (yours)" and found["threads"] == 1
    assert found["xnnpack_partitions"] == 1
    assert found["top1_agreement"] == 1.0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["xnnpack", "partitions", "1"] in rows and ["passed", "True"] in rows
    assert found["latency_ms"] > 0


@tensorflow
def test_class_names_that_the_model_carries(tmp_path):
    import onnxruntime

    names, given = ["ant", "bee", "cat", "dog", "eel", "fox"], list("uvwxyz")
    model = trained_model(class_names=names)
    for labels, expected in ((None, names), (given, given)):
        for name in ("model.tflite", "model.onnx", "saved"):
            options = {"verify": False, "verbose": False, "overwrite": True}
            keras_t2t.export(model, tmp_path / name, labels=labels, **options)
            found = keras_t2t.Predictor(tmp_path / name).classes
            assert found == [(str(i), class_name) for i, class_name in enumerate(expected)]
        with zipfile.ZipFile(tmp_path / "model.tflite") as packed:
            assert packed.read("labels.txt").decode().splitlines() == expected
        properties = onnxruntime.InferenceSession(tmp_path / "model.onnx").get_modelmeta()
        classes = json.loads(properties.custom_metadata_map["keras_t2t.json"])["classes"]
        assert [class_name for _, class_name in classes] == expected
        assert (tmp_path / "saved/assets/labels.txt").read_text().splitlines() == expected


@tensorflow
@pytest.mark.parametrize("name", ["model.tflite", "saved"])
def test_what_does_not_compute_the_same_is_not_written(name, model, tmp_path, monkeypatch):
    from keras_t2t.rewrite import export

    def wrong(network):
        x = keras.Input(SHAPE)
        return keras.Model(x, network(x) + keras.ops.mean(x, axis=(1, 2))[:, :1])

    monkeypatch.setattr(export, "fold", wrong)
    (tmp_path / "other").touch()
    with pytest.raises(ValueError, match="not written, because it does not compute what"):
        keras_t2t.export(model, tmp_path / name, verbose=False)
    assert listing(tmp_path) == ["other"]
    keras_t2t.export(model, tmp_path / name, verbose=False, verify=False)
    assert name in listing(tmp_path)


@tensorflow
def test_existing_files_and_folders(model, tmp_path):
    file, folder = tmp_path / "model.tflite", tmp_path / "saved"
    file.write_text("old")
    folder.mkdir()
    (folder / "saved_model.pb").write_text("old")
    for path in (file, folder):
        with pytest.raises(FileExistsError, match=f"{path} exists. Pass overwrite=True"):
            keras_t2t.export(model, path)
    assert file.read_text() == "old" and listing(folder) == ["saved_model.pb"]
    for path in (file, folder):
        keras_t2t.export(model, path, overwrite=True, verify=False, verbose=False)
        assert keras_t2t.Predictor(path).predict(inputs(1)).shape == (1, 6)
    assert listing(tmp_path) == ["model.tflite", "model.tflite.json", "saved", "saved.json"]


CASES = {
    "`format` must be one of 'saved_model', 'litert', 'onnx'": {"format": "caffe"},
    "expected .onnx at the end for format 'onnx'": {"format": "onnx"},
    "expected no suffix at the end for format 'saved_model'": {"format": "tf_saved_model"},
    "`precision` must be one of 'float32', 'float16', 'dynamic_int8', 'int8'": {
        "precision": "int4"
    },
    "`batch_size` must be a positive int": {"batch_size": "some"},
    "calibration: expected some 16 to 100 images, which int8 needs, got none": {
        "precision": "int8"
    },
    "integer_io: expected with precision='int8' only, got precision='float32'": {
        "integer_io": True
    },
    "`batch_size` must be a positive int. Received: batch_size=0": {"batch_size": 0},
    "`threads` must be a positive int": {"threads": -1},
    "calibration: expected with precision='int8' only, got precision='float16'": {
        "precision": "float16",
        "calibration": ["cat.jpg"],
    },
    "calibration: expected a list of paths, Pillow images or uint8 arrays, or an array, got 'a'": {
        "precision": "int8",
        "calibration": "a",
    },
    "images: expected some, got none": {"images": []},
    "images: expected a list of paths, Pillow images or uint8 arrays, or an array, got 'b.jpg'": {
        "images": "b.jpg"
    },
    "images: expected shape (n, rows, columns, channels), got (0,)": {
        "images": np.zeros(0, "float32")
    },
    "There is no folder": {"path": "missing/model.tflite"},
}


@pytest.mark.parametrize("message", CASES)
def test_arguments_are_checked_on_every_backend(message, tmp_path):
    arguments = {"path": "model.tflite", **CASES[message]}
    path = tmp_path / arguments.pop("path")
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        keras_t2t.export(keras.Sequential([keras.Input((3,))]), path, **arguments)
    assert message in str(error.value)
    assert listing(tmp_path) == []


@tensorflow
@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("labels: expected 6, one for each output", {"labels": ["ant", "bee"]}),
        ("expected shape \\(n, 32, 40, 3\\)", {"images": np.zeros((1, 3, 3, 3), "float32")}),
        ("not an image of a known format", {"images": [__file__]}),
        ("image: expected a path, a Pillow image or a uint8 array", {"images": [3]}),
    ],
)
def test_images_and_labels_are_checked(message, arguments, model, tmp_path):
    with pytest.raises(ValueError, match=message):
        keras_t2t.export(model, tmp_path / "model.tflite", **arguments)
    assert listing(tmp_path) == []


@tensorflow
def test_models_are_checked(tmp_path):
    two = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    plain = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "sigmoid")]
    )
    for model, arguments, message in (
        (keras.Model(two, keras.layers.Add()(two)), {}, "expected one input"),
        (keras.Sequential([keras.Input((None, 8, 3))]), {}, "of known size"),
        (plain, {"with_preprocessing": True}, "expected one PreprocessedImages layer"),
        (plain, {"with_softmax": True}, "expected a model that gives logits or their softmax"),
    ):
        with pytest.raises(ValueError, match=message):
            keras_t2t.export(model, tmp_path / "model.tflite", **arguments)
    assert listing(tmp_path) == []


@tensorflow
def test_quantised_models_are_refused_by_litert(tmp_path):
    model = trained_model()
    model.quantize("int8")
    with pytest.raises(ValueError, match="expected one that is not quantised, which LiteRT cannot"):
        keras_t2t.export(model, tmp_path / "model.tflite")
    assert listing(tmp_path) == []
    # Other formats compute it, from a file too.
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert keras_t2t.export(again, tmp_path / "model.onnx", verbose=False)["passed"]


def test_other_backends_are_told_what_to_do(tmp_path, monkeypatch):
    if keras.backend.backend() == "tensorflow":
        monkeypatch.setattr(exporter.keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match="run `keras-t2t export model.keras .*model.tflite`"):
        keras_t2t.export(keras.Sequential([keras.Input((3,))]), tmp_path / "model.tflite")
