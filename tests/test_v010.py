"""Files that 0.1.0 wrote load as plain models, give the same numbers, and go on from there.

`fixtures/v010/write.py` wrote them. A run of 0.1.0 resumes in `training/test_v010_run.py`.
"""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_t2t
from keras_t2t import compat
from keras_t2t.inference.evaluate import evaluate
from tests.fixtures.v010 import write as v010

FASHION_MNIST = v010.ROOT / "examples/models/fashion_mnist.keras"
FILES = {
    **{name: v010.HERE / f"{name}.keras" for name in ("small", "nested", "compiled")},
    "fashion_mnist": FASHION_MNIST,
}
EXPECTED = json.loads((v010.HERE / "expected.json").read_text())


def outputs(name):
    with np.load(v010.HERE / "outputs.npz") as arrays:
        return arrays[name]


def assert_as_010(model, name):
    found = v010.facts(model)
    assert found["layers"] == EXPECTED[name]["layers"]
    assert [[path, shape] for path, shape in found["weights"]] == EXPECTED[name]["weights"]
    if name == "fashion_mnist":
        scores = keras_t2t.Predictor(model).scores(outputs("fashion_mnist_images"))
    else:
        scores = model.predict(v010.images(3), verbose=0)
    np.testing.assert_allclose(scores, outputs(name), atol=1e-5)


@pytest.mark.above_backends
@pytest.mark.parametrize("name", FILES)
def test_models(name, tmp_path):
    model = keras.saving.load_model(FILES[name])
    assert type(model).__name__ == ("Sequential" if name == "nested" else "Functional")
    assert_as_010(model, name)

    model.save(tmp_path / "again.keras")
    with zipfile.ZipFile(tmp_path / "again.keras") as file:
        assert b"ArrangedModel" not in file.read("config.json")
    assert_as_010(keras.saving.load_model(tmp_path / "again.keras"), name)


def test_the_preprocessing_comes_along():
    model = keras.saving.load_model(FILES["small"])
    fresh = keras_t2t.T2TViT(**v010.ARCHITECTURE, preprocessing="cifar10")
    found = keras_t2t.model_preprocessing(model)
    assert found == keras_t2t.model_preprocessing(fresh)
    assert found is not None


def assert_sums(variables, expected):
    found = v010.sums(variables)
    assert [path for path, *_ in found] == [path for path, *_ in expected]
    for (path, *ours), (_, *theirs) in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3, err_msg=path)


@pytest.mark.above_backends
def test_training_goes_on(monkeypatch):
    """With the same moments, averages, learning rates and decay: the losses would tell.

    In the arithmetic of 0.1.0, whose epsilon stood where Keras has it.
    """

    def update_step(self, gradient, variable, learning_rate):
        rate = self.rate_of(variable, learning_rate)
        if compat.uses_weight_decay(self, variable):
            self.assign_sub(variable, variable * (rate * self.weight_decay))
        keras.optimizers.AdamW.update_step(self, gradient, variable, rate)

    monkeypatch.setattr(keras_t2t.training.AdamW, "update_step", update_step)
    model = keras.saving.load_model(FILES["compiled"])
    assert type(model.optimizer) is keras_t2t.training.AdamW
    assert_sums(model.optimizer.variables, EXPECTED["compiled"]["optimizer"])
    losses = [model.train_on_batch(*batch)[0] for batch in v010.batches(6, start=6)]
    np.testing.assert_allclose(losses, EXPECTED["compiled"]["losses"], rtol=1e-4)
    model.optimizer.finalize_variable_values(model.trainable_variables)
    assert_sums(model.trainable_variables, EXPECTED["compiled"]["average"])


@pytest.mark.parametrize("name", ["noted", "plain"])
def test_weights_files(name):
    """As `weights=` takes them: with 0.1.0's notes, and as `save_weights` leaves them."""
    path = v010.HERE / f"{name}.weights.h5"
    model = keras_t2t.create("t2t_vit_7", weights=path, **v010.ARCHITECTURE)
    np.testing.assert_allclose(
        model.predict(v010.images(3), verbose=0), outputs("small"), atol=1e-5
    )
    if name == "noted":
        small = keras.saving.load_model(FILES["small"])
        assert keras_t2t.model_preprocessing(model) == keras_t2t.model_preprocessing(small)


def test_weights_files_by_keras():
    model = keras_t2t.T2TViT(**v010.ARCHITECTURE, preprocessing="cifar10", dropout_rate=0.1)
    model.load_weights(v010.HERE / "plain.weights.h5")
    np.testing.assert_allclose(
        model.predict(v010.images(3), verbose=0), outputs("small"), atol=1e-5
    )


@pytest.mark.long
@pytest.mark.tensorflow
def test_the_trained_model_scores_the_same():
    """On all 10,000 test images, of which two near a tie may fall to the other side.

    `examples/test_fashion_mnist.py` takes 2,000.
    """
    folder = v010.IDX_IMAGES.parent
    if not folder.is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")
    predictor = keras_t2t.Predictor(FASHION_MNIST, batch_size=500)
    right = evaluate(predictor, folder)["top1"] * 10_000
    assert right == pytest.approx(9265, abs=2)
