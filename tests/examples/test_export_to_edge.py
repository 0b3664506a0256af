"""The example that exports a model in every way: what it cannot export, it says in one line."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_t2t

pytestmark = pytest.mark.tensorflow
main = runpy.run_path(str(Path(__file__).parents[2] / "examples/export_to_edge.py"))["main"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes, an image each."""
    folder = tmp_path_factory.mktemp("data")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)).astype("uint8")
    for split in ("train", "val"):
        for name, image in zip(("ant", "bee", "cat"), pixels, strict=True):
            (folder / split / name).mkdir(parents=True)
            Image.fromarray(image).save(folder / split / name / "a.png")
    return folder


def saved(path, classes, preprocessing):
    keras_t2t.T2TViT(
        (32, 32, 3),
        token_dim=8,
        embed_dim=16,
        depth=1,
        num_heads=2,
        classes=classes,
        preprocessing=preprocessing,
    ).save(path)
    return path


def test_what_cannot_be_exported(data, tmp_path):
    plain = tmp_path / "plain.keras"
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()]).save(plain)
    cases = {
        "There is no model file": (tmp_path / "missing.keras", data),
        "plain.keras: expected a model that says how images are prepared": (plain, data),
        "expected the 5 classes of": (saved(tmp_path / "5.keras", 5, "imagenet"), data),
        "nowhere: no such folder": (tmp_path / "5.keras", tmp_path / "nowhere"),
    }
    out = tmp_path / "out"
    for message, (model, folder) in cases.items():
        with pytest.raises(SystemExit) as stopped:
            main([str(model), "--data", str(folder), "--out", str(out)])
        error = stopped.value.code
        assert error.startswith("error: ") and message in error and "\n" not in error
        assert not out.exists()


def test_all_files(data, tmp_path, capsys):
    model = saved(tmp_path / "3.keras", 3, "imagenet")
    main([str(model), "--data", str(data), "--out", str(tmp_path / "out")])
    lines = capsys.readouterr().out.splitlines()[-7:]
    names = [line.split()[0] for line in lines]
    assert names[:3] == ["3.keras", "saved_model", "model.onnx"]
    assert {line.split()[1] for line in lines[:4]} == {lines[0].split()[1]}
