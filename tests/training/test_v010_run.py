"""Runs that were interrupted under 0.1.0 go on from their step, to the end that 0.1.0 came to.

`fixtures/v010/write_run.py` wrote them.
"""

import csv
import json
import shutil

import numpy as np
import pytest

from keras_t2t.training import load_recipe, train
from tests.fixtures.v010 import write_run as v010

pytestmark = [pytest.mark.slow, pytest.mark.above_backends]

# Not of the clock.
COMPARED = ("step", "loss", "top1", "learning_rate", "val_cross_entropy", "ema_val_cross_entropy")


def rows(path):
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_it_resumes(pooling, tmp_path, capsys):
    given = v010.HERE / "run" / pooling
    out = shutil.copytree(given, tmp_path / "run")
    recipe = load_recipe(out / "recipe.yaml")
    assert recipe.pooling == pooling
    train(recipe, v010.data(), out, verbose=0)
    assert "2 epochs and 1 steps are done" in capsys.readouterr().out
    found, expected = rows(out / "log.csv"), rows(given / "finished.csv")
    assert found[:2] == expected[:2]
    for row, expected_row in zip(found, expected, strict=True):
        for name in COMPARED:
            assert row[name] == pytest.approx(expected_row[name], rel=1e-4), (row["epoch"], name)
    assert json.loads((out / "results.json").read_text())["step"] == 8


@pytest.mark.tensorflow
def test_another_model_is_refused(tmp_path):
    """By its first variable that differs, even where the recipe is said to be the same."""
    out = shutil.copytree(v010.HERE / "run/token", tmp_path / "run")
    path = out / "recipe.yaml"
    path.write_text(path.read_text().replace("embed_dim: 8", "embed_dim: 12"))
    with pytest.raises(ValueError, match="The checkpoint is of another model or optimizer"):
        train(load_recipe(path), v010.data(), out, verbose=0)
    with np.load(*(out / "checkpoints").iterdir()) as arrays:
        assert "optimizer/0 adamw/iteration" in arrays.files
