"""Layers made of layers say which of these are quantised, as often as they are stored."""

import keras
import numpy as np
import pytest

from keras_t2t import layers

MAKERS = {
    "T2TBlock": lambda **k: layers.T2TBlock(8, "transformer", **k),
    "EncoderBlock": lambda **k: layers.EncoderBlock(3, **k),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    "policy", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.above_backends)]
)
def test_a_quantised_model_can_be_stored_again_and_again(name, policy, tmp_path):
    x = keras.Input((9, 12))
    model = keras.Model(x, MAKERS[name](dtype=policy)(x))
    model.quantize("int8")
    images = np.random.default_rng(0).normal(size=(2, 9, 12)).astype("float32")
    expected = keras.ops.convert_to_numpy(keras.ops.cast(model(images), "float32"))
    quantised = [part.quantization_mode for part in model._flatten_layers()]
    assert "int8" in quantised
    for number in range(3):
        model.save(tmp_path / f"{number}.keras")
        model = keras.saving.load_model(tmp_path / f"{number}.keras")
        assert [part.quantization_mode for part in model._flatten_layers()] == quantised
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    for stored in (model, again):
        found = keras.ops.convert_to_numpy(keras.ops.cast(stored(images), "float32"))
        np.testing.assert_array_equal(found, expected)
