"""The comparison of T2T-ViT and vanilla ViT, without its training."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PATH = Path(__file__).parents[2] / "scripts/compare_features.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("compare_features", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_models_are_of_equal_size_and_grid(script):
    models = {name: script.build(name) for name in script.MODELS}
    sizes = {name: model.count_params() for name, model in models.items()}
    assert sizes["t2t_vit"] == pytest.approx(sizes["vit"], rel=0.02)
    grids = {model.get_layer("projection").output.shape for model in models.values()}
    assert grids == {(None, 7, 7, 96)}


@pytest.mark.tensorflow
def test_pictures_and_results(script, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 28, 28, 1)).astype("float32"), np.arange(8)
    trained = []
    monkeypatch.setattr(script, "load", lambda split: data)
    monkeypatch.setattr(script, "train", lambda model, *_: trained.append(model.name))
    monkeypatch.setattr("sys.argv", ["compare_features.py", "--out", str(tmp_path)])
    script.main()
    assert trained == ["t2t_vit", "vit"]
    results = json.loads((tmp_path / "results.json").read_text())
    for name in trained:
        assert 0 <= results[name]["accuracy"] <= 1
        assert [row["layer"] for row in results[name]["dead_channels"]][-1] == "encoder_block_5"
    with Image.open(tmp_path / "feature_maps.png") as picture:
        assert picture.width > 1000 > picture.width / 2
    assert (tmp_path / "feature_maps.png").stat().st_size < 300_000

    script.main()  # what is trained already is taken as it is
    assert trained == ["t2t_vit", "vit"]
