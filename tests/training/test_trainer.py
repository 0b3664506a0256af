"""From data to model files, through Python and through the command line."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
from training.replicas import data, recipe

import keras_t2t
from keras_t2t.cli import main
from keras_t2t.training import distribution, load_recipe, train


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


@pytest.mark.tensorflow
def test_the_command_repeats_a_run(run, tmp_path, capsys):
    """From the recipe that a run saved, on the same data, to the last bit."""
    out, weights, _ = run
    for split, folder in (("train", "train"), ("validation", "val")):
        images, labels = data()[split]
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = tmp_path / "photos" / folder / f"class{label}" / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            keras.utils.save_img(path, image, scale=False)
    arguments = ["--data", str(tmp_path / "photos"), "--recipe", str(out / "recipe.yaml")]
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


def test_another_recipe_in_the_same_folder(run):
    out, _, _ = run
    other = dataclasses.replace(recipe(epochs=3), learning_rate=0.5, seed=1)
    with pytest.raises(ValueError, match="another recipe: seed, learning_rate differ"):
        train(other, data(), out, verbose=0)


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


@pytest.mark.tensorflow
def test_an_undecodable_image_is_named(tmp_path, capsys):
    for split in ("train", "val"):
        for name in "ab":
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                keras.utils.save_img(folder / f"{number}.png", np.ones((8, 8, 1)))
    (tmp_path / "train/b/1.png").write_bytes(b"no image")
    tiny = recipe(batch_size=4, epochs=1, warmup_epochs=0)
    with pytest.raises(ValueError, match="train/b/1.png"):
        train(tiny, tmp_path, tmp_path / "run", verbose=0)
    with pytest.warns(UserWarning, match="skipped"):
        train(tiny, tmp_path, tmp_path / "run2", bad_images="skip", verbose=0)
    assert "skipped" in capsys.readouterr().out
    assert json.loads((tmp_path / "run2/results.json").read_text())["skipped"] == 1


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
