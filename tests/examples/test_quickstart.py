"""The parts of the quickstart; CI runs the whole of it as a user does."""

import importlib.util
import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_t2t

pytestmark = pytest.mark.tensorflow

PATH = Path(__file__).resolve().parents[2] / "examples/quickstart.py"


@pytest.fixture(scope="module")
def quickstart():
    before = dict(os.environ)
    spec = importlib.util.spec_from_file_location("quickstart", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (100, 28, 28, 1), dtype=np.uint8)


def test_model_is_small_and_gives_logits_for_every_class(quickstart):
    model = quickstart.build_model(list("abcdefg"))
    assert model.count_params() < 2_000_000
    assert model.input_shape == (None, 28, 28, 1) and model.output_shape == (None, 7)
    assert model.get_layer("head").activation is keras.activations.linear
    assert keras_t2t.model_class_names(model) == tuple("abcdefg")


def test_augmentation_shifts_and_mirrors(quickstart):
    image = np.zeros((28, 28, 1), np.uint8)
    image[10, 5] = 255
    seen = set()
    for seed in range(300):
        augmented = quickstart.augment(image, (seed, 1)).numpy()
        assert augmented.shape == (28, 28, 1) and augmented.sum() == 255
        seen.add(tuple(int(axis[0]) for axis in np.nonzero(augmented[..., 0])))
    # Row 10 +- 1; column 5 +- 1, or those mirrored.
    columns = [4, 5, 6, 21, 22, 23]
    assert seen == {(row, column) for row in (9, 10, 11) for column in columns}


def test_training_data_covers_the_images_anew_each_epoch_and_repeats_with_the_seed(
    quickstart, images
):
    labels = np.arange(100)

    def two_epochs():
        data = quickstart.training_data(images, labels)
        return [[(x.numpy(), y.numpy()) for x, y in data] for _ in range(2)]

    epochs = two_epochs()
    for epoch in epochs:
        assert [x.shape for x, _ in epoch] == [(quickstart.BATCH_SIZE, 28, 28, 1)] * 3
        order = np.concatenate([y for _, y in epoch])
        assert len(set(order.tolist())) == 3 * quickstart.BATCH_SIZE
    assert not np.array_equal(epochs[0][0][1], epochs[1][0][1])
    for (x, y), (x_again, y_again) in zip(epochs[0], two_epochs()[0], strict=True):
        np.testing.assert_array_equal(y, y_again)
        np.testing.assert_array_equal(x, x_again)


def test_test_images_are_read_and_scaled_with_an_exactly_black_background(quickstart):
    builder = quickstart.tfds.builder_from_directory(quickstart.DATA)
    images, labels = quickstart.read_split(builder, "test")
    inputs = quickstart.scale(images).numpy()
    assert images.shape == (2000, 28, 28, 1) and labels.shape == (2000,)
    assert inputs.dtype == np.float32 and inputs.max() == 1.0
    np.testing.assert_array_equal(inputs == 0, images == 0)
    assert np.mean(inputs == 0) > 0.4


@pytest.mark.parametrize("epochs", [1, 2, 20])
def test_learning_rate_rises_to_its_peak_and_falls_towards_zero(quickstart, epochs):
    schedule = quickstart.warmup_cosine(epochs).schedule
    rates = np.array([schedule(epoch) for epoch in range(epochs)])
    # The closed form, in the middle of each epoch.
    progress = (np.arange(epochs) + 0.5) / epochs
    cosine = (1 + np.cos(np.pi * (progress - quickstart.WARMUP) / (1 - quickstart.WARMUP))) / 2
    expected = np.where(progress < quickstart.WARMUP, progress / quickstart.WARMUP, cosine)
    np.testing.assert_allclose(rates, quickstart.LEARNING_RATE * expected, rtol=1e-5)


def tiny_model():
    return keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(3, name="head")]
    )


def test_timing_changes_no_weight_and_more_time_gives_more_epochs(quickstart, images):
    model = tiny_model()
    model.compile(
        quickstart.AdamW(learning_rate=0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    before = model.get_weights()
    data = quickstart.training_data(images, np.arange(100) % 3)
    assert quickstart.epochs_that_fit(model, data, 100, seconds=-5.0) == 1
    assert quickstart.epochs_that_fit(model, data, 100, seconds=1e9) == quickstart.EPOCHS
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_exports_are_compared_with_the_model(quickstart, images, tmp_path):
    pytest.importorskip("ai_edge_litert")
    model, inputs = tiny_model(), quickstart.scale(images).numpy()
    kernel, bias = model.get_layer("head").get_weights()
    expected = inputs.reshape(100, -1) @ kernel + bias
    labels = np.argmax(expected, axis=1)
    labels[:25] = 3  # a class that the model does not have: a quarter is wrong

    paths = quickstart.export(model, tmp_path)
    logits, rows = quickstart.compare(model, paths, inputs, labels)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    names = ["Keras model", "model.keras", "saved_model", "model.tflite"]
    assert [row["name"] for row in rows] == names
    assert [row["accuracy"] for row in rows] == [0.75] * 4
    assert all(row["largest_logit_difference"] < 1e-5 for row in rows)
    assert rows[0]["bytes"] is None and rows[3]["bytes"] == paths[2].stat().st_size
    assert json.loads(json.dumps(rows)) == rows

    # Another model's file is told apart.
    other = tiny_model()
    other.get_layer("head").set_weights([kernel, bias + 0.5])
    other.save(paths[0])
    _, rows = quickstart.compare(model, paths, inputs, labels)
    assert rows[1]["largest_logit_difference"] == pytest.approx(0.5, abs=1e-5)


def test_pictures_are_written(quickstart, images, tmp_path):
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    history = {key: [1.0, 0.5] for key in ("loss", "val_loss", "accuracy", "val_accuracy")}
    quickstart.draw_learning_curve(history).savefig(tmp_path / "curve.png", dpi=150)
    logits = np.eye(3, dtype=np.float32)[np.arange(100) % 3]
    labels = np.zeros(100, int)
    page = quickstart.draw_predictions(images, labels, logits, "abc", 2, 3)
    page.savefig(tmp_path / "page.png", dpi=150)
    for name in ("curve.png", "page.png"):
        with image.open(tmp_path / name) as picture:
            low, high = picture.convert("L").getextrema()
            assert high - low > 100 and min(picture.size) > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "invalid positive int value: '0'"),
        (["--minutes", "-1"], "invalid positive float value: '-1'"),
        (["--minutes", "1", "--epochs", "1"], "not allowed with argument"),
        (["--devices", "two"], "invalid positive int value: 'two'"),
    ],
)
def test_wrong_arguments_are_named(quickstart, capsys, arguments, message):
    with pytest.raises(SystemExit):
        quickstart.parse_arguments(arguments)
    assert message in capsys.readouterr().err


def test_a_folder_that_is_there_is_left_alone(quickstart, capsys, tmp_path):
    with pytest.raises(SystemExit):
        quickstart.parse_arguments(["--out", str(tmp_path)])
    assert "is there already" in capsys.readouterr().err


def test_every_run_has_a_folder_of_its_own(quickstart, monkeypatch, tmp_path):
    monkeypatch.setattr(quickstart, "ROOT", tmp_path)
    for name in ("quickstart", "quickstart-2", "quickstart-3"):
        out = quickstart.parse_arguments([]).out
        assert out == tmp_path / "runs" / name
        out.mkdir(parents=True)
