"""From data to model files, through Python and through the command line."""

import csv
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_t2t
from keras_t2t.commands.main import main
from keras_t2t.training import (
    LossNotFinite,
    TrainingInterrupted,
    distribution,
    load_recipe,
    loop,
    save_recipe,
    train,
)
from keras_t2t.training.lock import locked
from tests.training.replicas import data, recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled():
    """XLA would take longer to compile these trainings than they take."""
    with pytest.MonkeyPatch.context() as patch:
        if keras.backend.backend() == "tensorflow":
            patch.setattr(distribution.Devices, "jit_compile", False)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "first"
    model, history = train(recipe(epochs=3), data(), out, verbose=0)
    weights = model.get_weights()
    return out, weights, history


def accuracy(path):
    """By hand, on the images as they are prepared for prediction."""
    model = keras.saving.load_model(path, safe_mode=True)
    images, labels = data()["validation"]
    logits = model.predict(keras_t2t.model_preprocessing(model).normalize(images), verbose=0)
    return np.mean(logits.argmax(1) == labels)


def test_files(run):
    out, weights, history = run
    assert load_recipe(out / "recipe.yaml") == recipe(epochs=3)
    assert (out / "classes.txt").read_text().split() == ["0", "1", "2", "3"]
    with open(out / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert accuracy(out / "model.keras") == pytest.approx(history[-1]["val_top1"], abs=1e-6)
    averaged = accuracy(out / "model_ema.keras")
    assert averaged == pytest.approx(history[-1]["ema_val_top1"], abs=1e-6)
    results = json.loads((out / "results.json").read_text())
    assert results["val_top1"] == history[-1]["val_top1"]
    saved = keras.saving.load_model(out / "model.keras").get_weights()
    for one, other in zip(saved, weights, strict=True):
        np.testing.assert_array_equal(one, other)


def folders(root, names):
    """The images of `data` as files, in folders of these names, which are in alphabetical order."""
    for split, folder in (("train", "train"), ("validation", "val")):
        for number, (image, label) in enumerate(zip(*data()[split], strict=True)):
            path = root / folder / names[label] / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(path, image, scale=False)
    return root


@pytest.mark.above_backends
@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_models_name_their_classes(pooling, tmp_path, capsys):
    """Without being told them again, and those of their own data."""
    names = ["ant", "bee", "cat", "n01440764"]
    photos = folders(tmp_path / "photos", names)
    out, chosen = tmp_path / "run", recipe(epochs=1, warmup_epochs=0, pooling=pooling)
    train(chosen, photos, out, verbose=0)
    (out / "classes.txt").unlink()
    picture = photos / "val" / "bee" / "001.png"
    pixels = data()["validation"][0][1:2]
    for file in ("model.keras", "model_ema.keras"):
        assert keras_t2t.model_class_names(keras.saving.load_model(out / file)) == tuple(names)
        (scores,) = scores_of(out / file, pixels)
        assert main(["predict", str(picture), "--model", str(out / file), "--json"]) == 0
        (result,) = map(json.loads, capsys.readouterr().out.splitlines())
        found = [(line["class"], line["name"]) for line in result["predictions"]]
        classes = [("0", "ant"), ("1", "bee"), ("2", "cat"), ("n01440764", "tench")]
        assert found == [classes[place] for place in np.argsort(-scores)]

    # Data with some of the classes, whose numbers are others.
    some = tmp_path / "some"
    for name in ("bee", "n01440764"):
        shutil.copytree(photos / "val" / name, some / "val" / name)
    assert main(["evaluate", str(out / "model.keras"), "--data", str(some), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    images, labels = data()["validation"]
    chosen_images = np.isin(labels, (1, 3))
    scores = scores_of(out / "model.keras", images[chosen_images])
    assert found["top1"] == np.mean(scores.argmax(1) == labels[chosen_images])

    other = folders(tmp_path / "other", ["a", "b", "c", "d"])
    again = dataclasses.replace(chosen, weights=str(out / "model.keras"))
    model, _ = train(again, other, tmp_path / "again", verbose=0)
    assert keras_t2t.model_class_names(model) == tuple("abcd")


def scores_of(path, images):
    """By hand, as `recipe` prepares images."""
    prepared = (images.astype("float32") / 255 - 0.5) / 0.25
    return keras.saving.load_model(path).predict(prepared, verbose=0)


@pytest.mark.above_backends
def test_the_command_repeats_a_run(run, tmp_path, capsys):
    """From the recipe that a run saved, on the same data, to the last bit."""
    out, weights, _ = run
    photos = folders(tmp_path / "photos", [f"class{label}" for label in range(4)])
    arguments = ["--data", str(photos), "--recipe", str(out / "recipe.yaml")]
    for folder in ("a", "b"):
        assert main(["train", *arguments, "--out", str(tmp_path / folder)]) == 0
    printed = capsys.readouterr().out
    assert "trained weights" in printed and "averaged" in printed
    assert (tmp_path / "a/classes.txt").read_text().split() == [f"class{i}" for i in range(4)]
    first, second = (
        keras.saving.load_model(tmp_path / folder / "model.keras").get_weights()
        for folder in ("a", "b")
    )
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.above_backends
def test_a_start_that_failed_does_not_bind_the_folder(tmp_path):
    for wrong in ({"batch_size": 64}, {"model": {"depht": 1}}):
        with pytest.raises(ValueError, match="batch_size|model"):
            train(recipe(epochs=1, warmup_epochs=0, **wrong), data(), tmp_path, verbose=0)
    # Nor does one that came no further than to the recipe.
    save_recipe(recipe(seed=7), tmp_path / "recipe.yaml")
    chosen = recipe(epochs=1, warmup_epochs=0)
    train(chosen, data(), tmp_path, verbose=0)
    assert load_recipe(tmp_path / "recipe.yaml") == chosen


@pytest.mark.above_backends
@pytest.mark.parametrize("how", ["interrupted", "nan"])
def test_what_is_stopped_leaves_a_model(how, tmp_path, monkeypatch):
    """That of the newest checkpoint, from which another run can start."""
    out = tmp_path / "run"
    run, error = loop.Loop.run, LossNotFinite if how == "nan" else TrainingInterrupted

    def stopping(self):
        self.epochs = 1
        run(self)
        # As a half-done step would leave it.
        for variable in self.model.trainable_variables:
            variable.assign(np.full(variable.shape, np.nan))
        raise error("SIGTERM")

    monkeypatch.setattr(loop.Loop, "run", stopping)
    with pytest.raises(error) as told:
        train(recipe(epochs=3), data(), out, verbose=0)
    monkeypatch.undo()
    with open(out / "log.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert accuracy(out / "model.keras") == pytest.approx(float(row["val_top1"]), abs=1e-6)
    averaged = accuracy(out / "model_ema.keras")
    assert averaged == pytest.approx(float(row["ema_val_top1"]), abs=1e-6)
    if how == "nan":
        assert str(told.value).endswith(f"with weights='{out / 'model.keras'}'")
    second = recipe(epochs=1, warmup_epochs=0, weights=str(out / "model.keras"))
    model, _ = train(second, data(), tmp_path / "second", verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.above_backends
def test_tensorboard(tmp_path, monkeypatch):
    chosen = recipe(epochs=1, warmup_epochs=0)
    train(chosen, data(), tmp_path, tensorboard=True, verbose=0)
    logs = (tmp_path / "tensorboard").rglob("events.out.tfevents.*")
    assert any(b"epoch_top1" in log.read_bytes() for log in logs)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'pip install "keras_t2t\[tensorboard\]"'):
        train(chosen, data(), tmp_path / "other", tensorboard=True, verbose=0)
    assert not (tmp_path / "other").exists()


HOLDER = """
import sys, pathlib, time
from keras_t2t.training.lock import locked
with locked(pathlib.Path(sys.argv[1]), False):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.above_backends
def test_a_folder_holds_one_training_at_a_time(tmp_path, caplog):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    chosen, host = recipe(epochs=1, warmup_epochs=0), socket.gethostname()
    message = f"{tmp_path}: process {holder.pid} on {host} trains in it. Choose another folder"
    with pytest.raises(ValueError, match=re.escape(message)):
        train(chosen, data(), tmp_path, verbose=0)
    assert not (tmp_path / "recipe.yaml").exists()
    # The process may be on another host, where nobody can see that it is dead: a job of one host
    # is refused, one of several has to be able to start again.
    (tmp_path / ".lock.json").write_text(json.dumps({"host": "elsewhere", "process": 7}))
    with (
        pytest.raises(ValueError, match="process 7 on elsewhere trains in it"),
        locked(tmp_path, False),
    ):
        pass
    with locked(tmp_path, True):
        assert "process 7 on elsewhere trains in it, or died" in caplog.text
    # A dead process holds nothing.
    holder.kill()
    holder.wait()
    train(chosen, data(), tmp_path, verbose=0)
    assert not (tmp_path / ".lock.json").exists()


@pytest.mark.above_backends
def test_a_folder_that_is_removed_ends_the_training(tmp_path, monkeypatch):
    out = tmp_path / "run"

    def removing(self):
        shutil.rmtree(out)
        return run(self)

    run = loop.Loop.run
    monkeypatch.setattr(loop.Loop, "run", removing)
    with pytest.raises(OSError, match="checkpoint could not be written .No such file or directory"):
        train(recipe(epochs=1, warmup_epochs=0), data(), out, verbose=0)
    assert not out.exists()


def test_another_recipe_in_the_same_folder(run):
    out, _, _ = run
    other = dataclasses.replace(recipe(epochs=3), learning_rate=0.5, seed=1)
    with pytest.raises(ValueError, match="another recipe: `seed`, `learning_rate` differ"):
        train(other, data(), out, verbose=0)
    three = {split: (images, labels % 3) for split, (images, labels) in data().items()}
    with pytest.raises(ValueError, match="classes.txt: is of other classes"):
        train(recipe(epochs=3), three, out, verbose=0)
    assert (out / "classes.txt").read_text().split() == ["0", "1", "2", "3"]


def test_errors(tmp_path):
    few = {
        "train": data()["train"],
        "validation": (np.zeros((4, 8, 8, 1), "uint8"), np.arange(4) % 3),
    }
    with pytest.raises(ValueError, match="4 classes to train on, but 3 in validation"):
        train(recipe(), few, tmp_path, verbose=0)
    with pytest.raises(ValueError, match="batch_size: expected at most the 32 images"):
        train(recipe(batch_size=64), data(), tmp_path, verbose=0)


@pytest.mark.tensorflow
def test_accumulation_is_refused_under_mirrored(tmp_path):
    with pytest.raises(ValueError, match="accumulation_steps: .*merge_call"):
        train(recipe(accumulation_steps=2), data(), tmp_path, strategy="mirrored", verbose=0)


@pytest.mark.above_backends
def test_accumulated_batches_are_one(tmp_path):
    """Twice half the batch trains as the whole does, where the rate changes by the epoch."""
    chosen = {"epochs": 2, "warmup_epochs": 0, "rate_every_step": False, "optimizer": "sgd"}
    halves = recipe(batch_size=8, accumulation_steps=2, **chosen)
    found, _ = train(halves, data(), tmp_path / "halves", verbose=0)
    expected, history = train(recipe(batch_size=16, **chosen), data(), tmp_path / "one", verbose=0)
    assert history[-1]["step"] == 4
    for one, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.tensorflow
def test_mirrored_in_half_precision(tmp_path):
    """Two logical devices; in a process of its own, whose CPU is not split yet."""
    code = """
import sys
from keras_t2t.training.lock import locked
from tests.training.replicas import data, recipe
from keras_t2t.training import train
chosen = recipe(epochs=1, warmup_epochs=0, precision="mixed_float16")
model, history = train(chosen, data(), sys.argv[1], devices=2, verbose=0)
print(model.distribute_strategy.num_replicas_in_sync, type(model.optimizer).__name__)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={**os.environ, "PYTHONPATH": f"{root}:{root / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[:2] == ["2", "LossScaleOptimizer"]
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1 and all(np.isfinite(float(row["loss"])) for row in rows)
    assert accuracy(tmp_path / "model.keras") == pytest.approx(float(rows[-1]["val_top1"]), abs=0.1)


@pytest.mark.above_backends
def test_an_undecodable_image_is_named(tmp_path, capsys):
    for split in ("train", "val"):
        for name in "ab":
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                keras.utils.save_img(folder / f"{number}.png", np.ones((8, 8, 1)))
    (tmp_path / "val/b/1.png").unlink()
    (tmp_path / "train/b/1.png").write_bytes(b"no image")
    tiny = recipe(batch_size=4, epochs=1, warmup_epochs=0)
    with pytest.raises(ValueError, match="train/b/1.png"):
        train(tiny, tmp_path, tmp_path / "run", verbose=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*ran out of data")
        (tmp_path / "val/b/1.png").symlink_to("nowhere.png")
        train(tiny, tmp_path, tmp_path / "run2", bad_images="skip", verbose=0)
    printed = capsys.readouterr().out
    for name in ("train/b/1.png", "val/b/1.png"):
        assert f"skipped {tmp_path / name}: " in printed
    assert json.loads((tmp_path / "run2/results.json").read_text())["skipped"] == 2


@pytest.mark.tensorflow
def test_300_steps_in_half_precision_stay_finite(tmp_path):
    """At a learning rate that is far too high."""
    chosen = recipe(
        epochs=1, batch_size=8, learning_rate=0.1, precision="mixed_float16", warmup_epochs=0
    )
    model, history = train(chosen, data(2400), tmp_path, verbose=0)
    assert history[-1]["step"] == 300
    assert np.isfinite(history[-1]["loss"])
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
