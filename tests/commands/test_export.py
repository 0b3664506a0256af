"""`keras-t2t export` and `evaluate`: what they refuse, in one line and before the work."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

import keras_t2t
from keras_t2t.commands import models
from keras_t2t.commands.main import main
from keras_t2t.preprocessing_layer import PreprocessedImages, model_preprocessing

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
NAMES = ["ant", "bee", "cat", "dog"]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    x = keras.Input((32, 32, 3))
    images = PreprocessedImages(model_preprocessing("imagenet", (32, 32, 3)))(x)
    flat = keras.layers.Flatten()(images)
    head = keras.layers.Dense(4, activation="softmax", kernel_initializer="he_normal")
    path = tmp_path_factory.mktemp("model") / "small.keras"
    keras.Model(x, head(flat), name="small").save(path)
    return str(path)


def error_of(arguments, capsys):
    """The one line that a command ends with."""
    assert main(arguments) == 2, arguments
    out, err = capsys.readouterr()
    assert err.startswith("keras-t2t: error: ") and err.count("\n") == 1 and out == ""
    return err


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_arguments_of_export_are_checked_before_the_model(backend, tmp_path, monkeypatch, capsys):
    def untimely(*arguments, **options):
        raise AssertionError("worked before its arguments were checked")

    monkeypatch.setattr(models, "open_model", untimely)
    monkeypatch.setattr(subprocess, "run", untimely)
    monkeypatch.setattr(keras.backend, "backend", lambda: backend)
    for name in ("taken.tflite", "report.onnx.json"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "mine" / "assets").mkdir(parents=True)
    for name in ("saved", "saved.tflite"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    photo = str(PHOTOS / "china.jpg")
    cases = {
        "taken.tflite exists. Pass --force": ["taken.tflite"],
        "report.onnx.json exists. Pass --force": ["report.onnx"],
        "saved exists. Pass --force": ["saved"],
        "mine is a folder, which is not replaced": ["mine", "--force"],
        "saved.tflite is a folder, which is not replaced by a file": ["saved.tflite", "--force"],
        "There is no folder": ["missing/a.tflite"],
        "--format must be one of": ["a", "--format", "caffe"],
        "DESTINATION: expected .tflite or .onnx at the end, or no suffix for a SavedModel": [
            "a.txt"
        ],
        "DESTINATION: expected no suffix at the end for format 'saved_model'": [
            *["a.TFLITE", "--format", "saved_model"]
        ],
        "--precision must be one of 'float32' for format 'saved_model'": [
            *["a", "--precision", "float16"]
        ],
        "--calibration: expected some 16 to 100 images": ["a.tflite", "--precision", "int8"],
        "--calibration: expected with --precision int8 only, got --precision float32": [
            *["a.tflite", "--calibration", photo]
        ],
        "--integer-io: expected with --precision int8 only": ["a.tflite", "--integer-io"],
        "nothing: no such file": ["a.tflite", "--images", str(tmp_path / "nothing")],
        '--labels: expected "imagenet"': ["a.tflite", "--labels", "mnist"],
    }
    for message, (destination, *options) in cases.items():
        arguments = ["export", "t2t_vit_14", str(tmp_path / destination), *options]
        assert message in error_of(arguments, capsys)
    assert (tmp_path / "report.onnx.json").read_text() == "mine"


def test_models_that_are_none(tmp_path, capsys):
    junk = str(tmp_path / "junk.txt")
    exported = "or an exported .tflite or .onnx file or SavedModel, got"
    error = error_of(["predict", str(PHOTOS), "--model", junk], capsys)
    assert "--model: expected a file" in error and exported in error
    error = error_of(["evaluate", junk, "--data", str(tmp_path)], capsys)
    assert "MODEL: expected a file" in error and exported in error
    if keras.backend.backend() == "tensorflow":
        error = error_of(["export", junk, str(tmp_path / "a.tflite")], capsys)
        assert "MODEL: expected a file" in error and "SavedModel" not in error


@pytest.mark.tensorflow
def test_suffixes_in_capitals(model_file, tmp_path, capsys):
    for name in ("a.TFLITE", "a.Onnx"):
        path = tmp_path / name
        assert main(["export", model_file, str(path)]) == 0
        assert path.is_file()
        assert main(["predict", str(PHOTOS / "china.jpg"), "--model", str(path)]) == 0


@pytest.mark.tensorflow
def test_int8_for_any_batch(model_file, tmp_path):
    path = tmp_path / "a.tflite"
    options = ["--precision", "int8", "--calibration", str(PHOTOS), "--batch-size", "dynamic"]
    assert main(["export", model_file, str(path), *options, "--no-verify"]) == 0
    predictor = keras_t2t.Predictor(path)
    assert predictor.input_shape[0] is None
    assert predictor.predict(np.zeros((3, 32, 32, 3), "float32")).shape == (3, 4)


@pytest.mark.tensorflow
def test_served_preprocessing_of_a_fixed_batch(model_file, tmp_path, capsys):
    path = str(tmp_path / "served")
    assert main(["export", model_file, path, "--batch-size", "2", "--with-preprocessing"]) == 0
    out = capsys.readouterr().out
    assert "preprocessing correlation" in out
    assert "threads" not in out  # TensorFlow chooses how many


@pytest.mark.tensorflow
def test_evaluation_by_the_names_of_classes(model_file, tmp_path, capsys):
    photo = PHOTOS / "china.jpg"
    labels, file, data = (tmp_path / name for name in ("labels.txt", "a.tflite", "data"))
    best = keras_t2t.Predictor(model_file).predict([photo])[0].argmax()
    # Last in the alphabet, or first: in neither case where its output stands.
    for name, others in (("zebra", NAMES), ("aardvark", NAMES)):
        names = others[:best] + [name] + others[best:3]
        labels.write_text("\n".join(names))
        assert main(["export", model_file, str(file), "--labels", str(labels), "--force"]) == 0
        shutil.rmtree(data, ignore_errors=True)
        (data / "val" / name).mkdir(parents=True)
        shutil.copy(photo, data / "val" / name)
        capsys.readouterr()
        assert main(["evaluate", str(file), "--data", str(data)]) == 0
        assert capsys.readouterr().out.startswith("top-1 100.00%, 1 images")
    for known in names:
        (data / "val" / known).mkdir(exist_ok=True)
    assert main(["evaluate", str(file), "--data", str(data)]) == 0
    assert capsys.readouterr().out.startswith("top-1 100.00%, 1 images")
    (data / "val" / "unicorn").mkdir()
    error = error_of(["evaluate", str(file), "--data", str(data)], capsys)
    assert "--data: expected the 4 classes of model 'small' or some of them, got 5 of" in error
    assert error.endswith("which it does not know by name: unicorn\n")
    # A .keras file holds no names.
    error = error_of(["evaluate", model_file, "--data", str(data)], capsys)
    assert "got 5 of" in error and "which it does not know by name: aardvark, ant" in error
    # As many, in another order.
    (data / "val" / names[0]).rename(data / "val" / "zzz")
    (data / "val" / "unicorn").rmdir()
    error = error_of(["evaluate", str(file), "--data", str(data)], capsys)
    assert "got 4 of" in error and error.endswith("which it does not know by name: zzz\n")


@pytest.mark.tensorflow
def test_evaluation_names_the_image_that_cannot_be_decoded(model_file, tmp_path, capsys):
    for name in NAMES:
        (tmp_path / "val" / name).mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(tmp_path / "val" / "ant" / "a.png")
    bad = tmp_path / "val" / "bee" / "b.jpg"
    bad.write_text("no image")
    assert str(bad) in error_of(["evaluate", model_file, "--data", str(tmp_path)], capsys)


@pytest.mark.tensorflow
def test_export_whichever_backend_is_chosen(model_file, tmp_path):
    """The command takes TensorFlow, before Keras is loaded; and nothing that lies around runs."""
    for name in ("keras_t2t", "keras", "tensorflow", "numpy", "onnx", "json", "site"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the module at hand was imported')")
    result = subprocess.run(
        [Path(sys.executable).with_name("keras-t2t"), "export", model_file, "small.tflite"],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("small.tflite\n")
    assert (tmp_path / "small.tflite").is_file()
