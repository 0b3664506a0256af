"""Weights for RGB images in models for another number of channels: the logits stay."""

import keras
import numpy as np
import pytest

import keras_t2t
from tests import parity

LOGITS = {"classifier_activation": None}


def small(variant, channels):
    """Few blocks and pixels: the encoder knows nothing of channels."""
    return keras_t2t.create(variant, input_shape=(64, 48, channels), depth=1, **LOGITS)


@pytest.fixture(scope="module", params=["t2t_vit_7", "t2t_vit_t_14"])
def checkpoint(request):
    state = parity.reference_state_dict(request.param)
    arrays = {
        key: array
        for key, array in state.items()
        if not key.startswith("blocks.") or key.startswith("blocks.0.")
    }
    return request.param, arrays


def logits(checkpoint, images):
    variant, arrays = checkpoint
    model = small(variant, images.shape[-1])
    keras_t2t.load_checkpoint(model, arrays)
    return model.predict(images, verbose=0)


def test_one_channel_is_rgb_of_the_image_three_times(checkpoint):
    images = parity.reference_images(2, 64, channels=1)[:, :, :48]
    images[1, :, :24] = 0.5
    expected = logits(checkpoint, np.repeat(images, 3, axis=-1))
    result = logits(checkpoint, images)
    np.testing.assert_allclose(result[0], expected[0], atol=2e-5)
    # A flat patch is divided by sqrt(1e-5), and with it the rounding error of its mean.
    np.testing.assert_allclose(result[1], expected[1], atol=2e-4)
    assert np.abs(expected).max() > 0.5  # so that equal is not just small


def test_six_channels_are_rgb_twice(checkpoint):
    rgb = parity.reference_images(2, 64)[:, :, :48]
    expected = logits(checkpoint, rgb)
    np.testing.assert_allclose(
        logits(checkpoint, np.concatenate((rgb, rgb), axis=-1)), expected, atol=2e-5
    )


def test_four_channels_take_turns():
    model = small("t2t_vit_7", 4)
    arrays = keras_t2t.published_state_dict(small("t2t_vit_7", 3))
    keras_t2t.load_checkpoint(model, arrays)
    back = keras_t2t.published_state_dict(model)
    prefix = "tokens_to_token.attention1"
    kernel = arrays[f"{prefix}.kqv.weight"].reshape(192, 3, 49)
    np.testing.assert_allclose(
        back[f"{prefix}.kqv.weight"].reshape(192, 4, 49), kernel[:, [0, 1, 2, 0]] * 0.75, rtol=1e-6
    )
    assert keras.ops.shape(model.get_layer("t2t_block_0").norm1.gamma) == (4 * 49,)


def test_back_to_three_channels_is_refused():
    arrays = keras_t2t.published_state_dict(small("t2t_vit_7", 1))
    with pytest.raises(ValueError, match=r"norm1.weight: expected shape \(147,\), received \(49,"):
        keras_t2t.load_checkpoint(small("t2t_vit_7", 3), arrays)


def test_it_is_reported(caplog):
    arrays = keras_t2t.published_state_dict(small("t2t_vit_7", 3))
    with caplog.at_level("INFO", logger="keras_t2t"):
        keras_t2t.load_checkpoint(small("t2t_vit_7", 1), arrays)
    assert [record.message for record in caplog.records] == [
        "Fitted the mapping to 1-channel images"
    ]
