"""The studies, without their training."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_t2t.training import save_recipe

PATH = Path(__file__).resolve().parents[2] / "scripts/study.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("study", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(script, *arguments):
    """What the command line gives to a study."""
    seen = []
    script.study_vit = script.study_transfer = script.study_features = seen.append
    script.main([*map(str, arguments)])
    return seen[0]


def finish(recipe, out, **results):
    """Writes what a finished run leaves."""
    out.mkdir(parents=True)
    save_recipe(recipe, out / "recipe.yaml")
    (out / "results.json").write_text(json.dumps(results))
    (out / "log.csv").write_text("epoch,seconds,ema_val_top1\n1,60,0.5\n2,60,0.75\n")


def test_a_run_of_another_recipe_is_not_taken(script, tmp_path):
    finish(script.vit_recipe("vit", 0, 6), tmp_path / "vit-0", val_top1=0.9)
    chosen = options(script, "vit", "--out", tmp_path, "--epochs", 6, "--data", "nowhere")
    results, rows = script.vit_run("vit", 0, chosen)
    assert results == {"val_top1": 0.9}
    assert rows[0] == {"epoch": 1.0, "seconds": 60.0, "ema_val_top1": 0.5}
    chosen.epochs = 99
    with pytest.raises(ValueError, match="vit-0: holds a run with another epochs"):
        script.vit_run("vit", 0, chosen)


def test_the_comparison_with_a_vit(script, tmp_path):
    for name, top1 in (("t2t_vit", (0.9, 0.8)), ("vit", (0.7, 0.7))):
        for seed, value in enumerate(top1):
            results = {"val_top1": value, "ema_val_top1": value, "parameters": 1234}
            finish(script.vit_recipe(name, seed, 6), tmp_path / f"{name}-{seed}", **results)
    script.main(["vit", "--out", str(tmp_path), "--seeds", "2", "--data", "nowhere"])
    assert (tmp_path / "table.md").read_text().splitlines() == [
        "| model | parameters | seeds | top-1 | averaged weights | minutes a run |",
        "| --- | --- | --- | --- | --- | --- |",
        "| T2T-ViT | 1,234 | 2 | 85.00 ± 7.07 % | 85.00 ± 7.07 % | 2.0 |",
        "| vanilla ViT | 1,234 | 2 | 70.00 ± 0.00 % | 70.00 ± 0.00 % | 2.0 |",
    ]
    with Image.open(tmp_path / "compare_with_vit.png") as picture:
        assert picture.width > 1000
    assert len(json.loads((tmp_path / "results.json").read_text())["vit"]) == 2


@pytest.mark.above_backends
@pytest.mark.parametrize("study", ["vit", "transfer"])
def test_missing_data_are_told_in_a_line(study, tmp_path):
    done = subprocess.run(
        [sys.executable, PATH, study, "--data", tmp_path / "nowhere", "--out", tmp_path],
        env={**os.environ, "PYTHONPATH": str(PATH.parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "study.py: error: " in done.stderr and "nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_too_few_images(script, capsys):
    with pytest.raises(SystemExit):
        script.main(["transfer", "--images", "3"])
    assert "--images: expected at least 4, got 3" in capsys.readouterr().err


def test_models_are_of_equal_size_and_grid(script):
    models = {name: script.build_feature_model(name) for name in script.FEATURE_MODELS}
    sizes = {name: model.count_params() for name, model in models.items()}
    assert sizes["t2t_vit"] == pytest.approx(sizes["vit"], rel=0.02)
    grids = {model.get_layer("projection").output.shape for model in models.values()}
    assert grids == {(None, 7, 7, 96)}


@pytest.mark.above_backends
def test_pictures_and_results(script, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 28, 28, 1)).astype("float32"), np.arange(8)
    trained = []
    monkeypatch.setattr(script, "load_subset", lambda split: data)
    monkeypatch.setattr(script, "fit", lambda model, *_: trained.append(model.name))
    script.main(["features", "--out", str(tmp_path)])
    assert trained == ["t2t_vit", "vit"]
    results = json.loads((tmp_path / "results.json").read_text())
    for name in trained:
        assert 0 <= results[name]["accuracy"] <= 1
        assert [row["layer"] for row in results[name]["dead_channels"]][-1] == "encoder_block_5"
    with Image.open(tmp_path / "feature_maps.png") as picture:
        assert picture.width > 1000 > picture.width / 2
    assert (tmp_path / "feature_maps.png").stat().st_size < 300_000

    script.main(["features", "--out", str(tmp_path)])  # what is trained already is taken as it is
    assert trained == ["t2t_vit", "vit"]
