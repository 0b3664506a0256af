"""What is said where a package of an extra is missing: which extra, and how to install it."""

import ast
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_t2t
from keras_t2t.commands.main import main
from keras_t2t.data.show import draw_batch
from keras_t2t.exporting.options import ExportOptions
from keras_t2t.extras import require
from keras_t2t.inspection import plot_attention
from keras_t2t.weights.checkpoint import read_checkpoint, write_checkpoint
from tests.exporting.trained import photos, trained_model
from tests.missing import missing, top

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

ROOT = Path(__file__).parents[1]
BACKENDS = ("jax", "torch")
# They bring nothing that the package imports.
OTHER_EXTRAS = ("gpu", "docs", "test")


def requirements():
    """{extra: the names that its packages are imported by}, and those of what is always there."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")

    def modules(text):
        lines = [line for line in text.split("\n") if line and not line.startswith("#")]
        return [re.split(r"[^\w-]", line)[0].replace("-", "_") for line in lines]

    extras = {name: modules(text) for name, text in config["options.extras_require"].items()}
    for name in OTHER_EXTRAS:
        del extras[name]
    return extras, modules(config["options"]["install_requires"])


EXTRAS, ALWAYS = requirements()
PAIRS = {(extra, package) for extra, packages in EXTRAS.items() for package in packages}


def test_every_import_is_of_a_requirement_or_an_extra():
    known = {*sys.stdlib_module_names, *ALWAYS, "keras_t2t", "PIL", "yaml"}
    known |= {package for _, package in PAIRS}
    known |= {"flatbuffers"}  # which TensorFlow brings
    found = set()
    for path in (ROOT / "keras_t2t").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            found |= {(top(name), path.name) for name in names}
    assert {pair for pair in found if pair[0] not in known} == set()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model in every file that there is a reader for, images and a data set."""
    folder = tmp_path_factory.mktemp("files")
    model = trained_model(input_shape=(28, 28, 3), token_dim=8, depth=1, embed_dim=8, num_heads=1)
    model.save(folder / "model.keras")
    quietly = {"verify": False, "verbose": False, "labels": ["cat", "dog", *"abcd"]}
    keras_t2t.export(model, folder / "model.tflite", **quietly)
    keras_t2t.export(model, folder / "model.onnx", **quietly)
    for name in ("train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "val/dog/d.png"):
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photos(1, (30, 30))[0]).save(folder / "data" / name)
    for name in ("broken.jpg", "broken.pth"):
        (folder / name).write_text("nothing")
    return folder


# Command lines, and the error that saves the time of what is slow and comes after the imports.
COMMANDS = {
    "export {files}/model.keras {out}/a": "",
    "export {files}/model.keras {out}/a.tflite --precision dynamic_int8 --no-verify": "",
    "export {files}/model.keras {out}/a.onnx --no-verify": "",
    "predict {image} --model {files}/model.keras": "",
    "predict {image} --model {files}/model.tflite": "",
    "predict {image} --model {files}/model.onnx": "",
    "evaluate {files}/model.tflite --data {files}/data": "",
    "evaluate {files}/model.onnx --data {files}/data": "",
    "check-data {files}/data": "",
    "show-batch {files}/data --out {out}/a.png": "expected at most the 2 images",
    "visualize {files}/broken.jpg --model {files}/model.keras --out {out}/seen": "not an image",
    "summary t2t_vit_7 --plot {out}/a.png": "",
    "convert {files}/broken.pth {out}/a.npz": "broken.pth",
    "train --data {files}/data --out {out}/run --tensorboard true --strategy data_parallel": (
        "needs KERAS_BACKEND=jax"
    ),
}
PICTURE = np.zeros((2, 4, 4, 3), "float32"), np.eye(2, dtype="float32")
CALLS = {
    "Predictor": lambda files, out: keras_t2t.Predictor(files / "model.tflite"),
    "read_checkpoint": lambda files, out: read_checkpoint(
        write_checkpoint(out / "a.pth", {"key": np.zeros(2)})
    ),
    "plot_attention": lambda files, out: plot_attention(PICTURE[0][0], {"a": np.eye(4)}),
    "a verified ONNX file": lambda files, out: ExportOptions(out / "a.onnx"),
    "an ONNX file in int8": lambda files, out: ExportOptions(
        out / "a.onnx", precision="dynamic_int8", verify=False
    ),
    "a LiteRT file": lambda files, out: ExportOptions(out / "a.tflite"),
    "draw_batch": lambda files, out: draw_batch(*PICTURE, keras_t2t.Preprocessing(4, 4)),
}


def names_of(files, out):
    return {"files": files, "out": out, "image": files / "data/val/cat/c.png"}


def error_of(action, files, out, capsys):
    """The error that a command line or a call ends with; empty if it succeeds."""
    capsys.readouterr()
    if action in CALLS:
        try:
            CALLS[action](files, out)
        except ImportError as error:
            return str(error)
        return ""
    code = main(action.format(**names_of(files, out)).split())
    error = capsys.readouterr().err
    assert (code == 2) == error.startswith("keras-t2t: error: ") == (error.count("\n") == 1)
    return error.removeprefix("keras-t2t: error: ").rstrip("\n")


def test_errors_name_every_extra(files, tmp_path, capsys):
    """Each action without any extra at first, then with each package that the error asked for."""
    told = set()
    for number, action in enumerate([*COMMANDS, *CALLS]):
        out, absent = tmp_path / str(number), {package for _, package in PAIRS}
        out.mkdir()
        while True:
            with missing(absent):
                error = error_of(action, files, out, capsys)
            if COMMANDS.get(action, "") in error and "not installed" not in error:
                break
            found = re.fullmatch(r'(\w+) is not installed: pip install "keras_t2t\[(\w+)\]"', error)
            assert found, (action, error)
            package, extra = found.groups()
            assert package in EXTRAS[extra], action
            assert list(out.iterdir()) == [], action  # Nothing was written before.
            absent.remove(package)
            told.add((extra, package))
    # The actions reach every import of an extra.
    assert told == {pair for pair in PAIRS if pair[0] not in BACKENDS}


def test_a_torch_that_is_too_old(tmp_path, monkeypatch):
    import torch

    monkeypatch.setattr(torch, "__version__", "2.9.1")
    with pytest.raises(ImportError, match=r'or newer: pip install "keras_t2t\[convert\]"$'):
        write_checkpoint(tmp_path / "a.pth", {"key": np.zeros(2)})


NO_BACKEND = """
import sys
from keras_t2t.commands.main import main
from tests.missing import missing

with missing([sys.argv[1]]):
    for line in sys.stdin:
        assert main(line.split()) == 2, line
"""
# `export` has its own, and these load no Keras.
OWN_BACKEND = ("export", "check-data", "show-batch")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backend_that_is_not_installed(backend, files, tmp_path):
    """Keras imports it, as soon as a command loads Keras."""
    lines = [line.format(**names_of(files, tmp_path)) for line in COMMANDS]
    lines = [line for line in lines if not line.startswith(OWN_BACKEND)]
    result = subprocess.run(
        [sys.executable, "-c", NO_BACKEND, backend],
        input="\n".join(lines),
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    expected = f'keras-t2t: error: {backend} is not installed: pip install "keras_t2t[{backend}]"'
    assert result.stderr.splitlines() == [expected] * len(lines)


def test_a_package_that_is_broken_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "brokenpackage.py").write_text("raise ImportError('libGL is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    require("plot", "brokenpackage")
    with pytest.raises(ModuleNotFoundError) as error:
        require("plot", "brokenpackage", "nosuchpackage")
    assert error.value.name == "nosuchpackage"
