"""What users of Keras do to any model: save, clone, fit, quantise, LoRA."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.models.test_t2t_vit import images, small

above_backends = pytest.mark.above_backends
OTHERS = ("transformer", "convolution", "patch")
MIXERS = ("performer", *(pytest.param(mixer, marks=above_backends) for mixer in OTHERS))


def predictions(model, x):
    return ops.convert_to_numpy(model(x))


@pytest.mark.parametrize("token_mixer", MIXERS)
def test_keras_file_round_trip_in_safe_mode(token_mixer, tmp_path):
    model = small(token_mixer=token_mixer, dropout_rate=0.1, drop_path_rate=0.1)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    x = images(model)
    np.testing.assert_array_equal(predictions(again, x), predictions(model, x))
    assert again.to_json() == model.to_json()


@above_backends
def test_weights_file_round_trip(tmp_path):
    model, other = small(seed=1), small(seed=2)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    x = images(model)
    np.testing.assert_array_equal(predictions(other, x), predictions(model, x))


@above_backends
@pytest.mark.parametrize("flavor", ["squeeze_excite", "ghost"])
def test_flavours_round_trip(flavor, tmp_path):
    model = small(flavor=flavor, mlp_ratio=3.0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = images(model)
    np.testing.assert_array_equal(predictions(again, x), predictions(model, x))


@above_backends
def test_dense_flavour_round_trips(tmp_path):
    model = small(flavor="dense", depth=(1, 2), growth_rate=8)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = images(model)
    np.testing.assert_array_equal(predictions(again, x), predictions(model, x))


@above_backends
def test_clone():
    model = small()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    x = images(model)
    np.testing.assert_array_equal(predictions(clone, x), predictions(model, x))


@pytest.mark.parametrize("policy", [pytest.param("float32", marks=above_backends), "mixed_float16"])
def test_fit_learns(policy):
    keras.config.set_dtype_policy(policy)
    model = small(input_shape=(16, 16, 1), depth=1, performer_dropout_rate=0.0, seed=0)
    model.compile(
        keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    x = rng.normal(size=(40, 16, 16, 1)).astype("float32") * 0.1
    x[labels == 0, :8] += 1  # One class is bright above, the other below.
    x[labels == 1, 8:] += 1
    history = model.fit(x, labels, batch_size=40, epochs=40, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["accuracy"][-1] > 0.9


@pytest.mark.slow
@above_backends  # `layers/test_quantized.py` has it on every backend
def test_int8_quantisation(tmp_path):
    model = small(depth=1, seed=0)
    x = images(model)
    before = predictions(model, x)
    model.quantize("int8")
    assert "int8" in {v.dtype for v in model.get_layer("encoder_block_0").weights}
    after = predictions(model, x)
    np.testing.assert_allclose(after, before, atol=0.02)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predictions(again, x), after, atol=1e-6)
    assert "int8" in {v.dtype for v in again.get_layer("t2t_block_0").weights}


@above_backends  # `rewrite/test_fusing.py` has it on every backend
def test_lora_trains_little_and_saves(tmp_path):
    model = small(seed=0)
    x = images(model, batch=4)
    before = predictions(model, x)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dense) and layer.name != "head":
            layer.enable_lora(2)
        elif not getattr(layer, "layers", None) and layer.name != "head":
            for variable in layer._trainable_variables:
                variable.trainable = False
    np.testing.assert_allclose(predictions(model, x), before, atol=1e-6)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.train_on_batch(x, np.arange(4))
    after = predictions(model, x)
    assert (after != before).any()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(predictions(again, x), after, atol=1e-5)
