"""The comparison of T2T-ViT and vanilla ViT: what is finished is taken only if it is the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_t2t.training import save_recipe

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    import compare_with_vit

    return compare_with_vit


def test_a_run_of_another_recipe_is_not_taken(script, tmp_path):
    out = tmp_path / "vit-0"
    out.mkdir()
    save_recipe(script.recipe("vit", 0, 6), out / "recipe.yaml")
    (out / "results.json").write_text('{"val_top1": 0.9}')
    (out / "log.csv").write_text("epoch\n6\n")
    results, rows = script.run("vit", 0, 6, "nowhere", tmp_path)
    assert (results, rows) == ({"val_top1": 0.9}, [{"epoch": 6.0}])
    with pytest.raises(ValueError, match="vit-0: holds a run with another epochs"):
        script.run("vit", 0, 99, "nowhere", tmp_path)


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", ["compare_with_vit.py", "transfer_gain.py"])
def test_missing_data_are_told_in_a_line(name, tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPTS / name, "--data", tmp_path / "nowhere", "--out", tmp_path],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"{name}: error: " in done.stderr and "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
