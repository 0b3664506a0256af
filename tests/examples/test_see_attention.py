"""`examples/see_attention.py`, on a small model of one's own."""

import runpy
import sys
from pathlib import Path

import pytest
import sklearn.datasets
from PIL import Image

from tests.inspection.small_models import small_model

PATH = Path(__file__).resolve().parents[2] / "examples/see_attention.py"
PHOTO = Path(sklearn.datasets.__file__).parent / "images/flower.jpg"


@pytest.mark.above_backends
def test_see_attention(tmp_path, monkeypatch):
    model, output = tmp_path / "model.keras", tmp_path / "attention.png"
    small_model(preprocessing="imagenet").save(model)
    monkeypatch.setattr(sys, "argv", [str(PATH), str(model), str(PHOTO), str(output)])
    variables = runpy.run_path(str(PATH))
    assert list(variables["heats"]) == ["encoder_block_0", "encoder_block_1", "rollout"]
    assert all(heat.shape == (2, 2) for heat in variables["heats"].values())
    with Image.open(output) as picture:
        assert picture.format == "PNG"
