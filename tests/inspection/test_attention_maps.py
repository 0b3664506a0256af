"""Attention maps against an independent NumPy computation, and rollout against one by hand."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_t2t.inspection import (
    attention_maps,
    attention_rollout,
    class_token_attention,
    on_grid,
    token_grid,
)
from tests.inspection.small_models import images, small_model


def array(tensor):
    return ops.convert_to_numpy(tensor).astype("float64")


def linear(layer, x):
    y = x @ array(layer.kernel)
    return y if layer.bias is None else y + array(layer.bias)


def values_at(model, tensor, x):
    return ops.convert_to_tensor(array(keras.Model(model.input, tensor)(x)).astype("float32"))


def heads(x, count):
    batch, tokens, channels = x.shape
    return x.reshape(batch, tokens, count, channels // count).transpose(0, 2, 1, 3)


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def normed_input(model, block, x):
    """What the attention of a block takes: (layer's tensor, the same as float64)."""
    tokens = values_at(model, block.input, x)
    tokens = ops.reshape(tokens, (len(x), -1, tokens.shape[-1]))
    normed = block.norm1(tokens)
    return normed, array(normed)


def test_encoder_attention_equals_numpy_and_gives_the_output_of_its_layer():
    model, x = small_model(), images()
    maps = attention_maps(model, x)
    for name in ("encoder_block_0", "encoder_block_1"):
        attention = model.get_layer(name).attention
        tensor, tokens = normed_input(model, model.get_layer(name), x)
        q, k, v = (heads(part, 3) for part in np.split(linear(attention.qkv, tokens), 3, axis=-1))
        expected = softmax(q @ k.transpose(0, 1, 3, 2) / np.sqrt(8))
        assert maps[name].shape == (2, 3, 5, 5) and maps[name].dtype == "float32"
        np.testing.assert_allclose(maps[name], expected, atol=1e-5)
        np.testing.assert_allclose(maps[name].sum(axis=-1), 1, atol=1e-6)
        assert maps[name].max() > 0.5  # far from the uniform 0.2

        mixed = (maps[name] @ v).transpose(0, 2, 1, 3).reshape(2, 5, 24)
        output = linear(attention.projection, mixed)
        np.testing.assert_allclose(array(attention(tensor)), output, atol=1e-4)


def test_t2t_transformer_attention_equals_numpy_and_gives_the_output_of_its_layer():
    model, x = small_model("transformer"), images()
    maps = attention_maps(model, x)
    for name, tokens_there, channels in (("t2t_block_0", 48, 147), ("t2t_block_1", 12, 72)):
        attention = model.get_layer(name).attention
        tensor, tokens = normed_input(model, model.get_layer(name), x)
        q, k, v = np.split(linear(attention.qkv, tokens), 3, axis=-1)
        expected = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(channels))[:, None]
        assert maps[name].shape == (2, 1, tokens_there, tokens_there)
        np.testing.assert_allclose(maps[name], expected, atol=1e-5)
        output = v + linear(attention.projection, maps[name][:, 0] @ v)
        np.testing.assert_allclose(array(attention(tensor)), output, atol=1e-4)


def test_implied_performer_attention_times_values_is_the_output_of_its_layer():
    model, x = small_model("performer"), images()
    maps = attention_maps(model, x, queries="all")
    for name, tokens_there in (("t2t_block_0", 48), ("t2t_block_1", 12)):
        attention = model.get_layer(name).attention
        tensor, tokens = normed_input(model, model.get_layer(name), x)
        k, q, v = np.split(linear(attention.kqv, tokens), 3, axis=-1)
        w = array(attention.features)
        phi_q, phi_k = (
            np.exp(part @ w.T - (part**2).sum(axis=-1, keepdims=True) / 2) / np.sqrt(len(w))
            for part in (q, k)
        )
        expected = phi_q @ phi_k.transpose(0, 2, 1)
        expected /= expected.sum(axis=-1, keepdims=True) + 1e-8
        assert maps[name].shape == (2, 1, tokens_there, tokens_there)
        np.testing.assert_allclose(maps[name][:, 0], expected, atol=1e-5)
        np.testing.assert_allclose(maps[name].sum(axis=-1), 1, atol=1e-4)
        output = v + linear(attention.projection, maps[name][:, 0] @ v)
        np.testing.assert_allclose(array(attention(tensor)), output, atol=1e-4)


@pytest.mark.above_backends
@pytest.mark.parametrize("token_mixer", ["performer", "transformer"])
def test_queries_choose_rows(token_mixer):
    model, x = small_model(token_mixer), images()
    everything = attention_maps(model, x, queries="all")
    chosen = attention_maps(model, x, queries=[(0, 0.999), (0.5, 0.25)])
    # On a grid of 6 x 8: row 0, column 7, and row 3, column 2.
    np.testing.assert_allclose(
        chosen["t2t_block_0"], everything["t2t_block_0"][:, :, [7, 3 * 8 + 2]], atol=1e-6
    )
    # On a grid of 3 x 4: row 0, column 3, and row 1, column 1.
    np.testing.assert_allclose(
        chosen["t2t_block_1"], everything["t2t_block_1"][:, :, [3, 1 * 4 + 1]], atol=1e-6
    )
    np.testing.assert_array_equal(chosen["encoder_block_0"], everything["encoder_block_0"])
    default = attention_maps(model, x, layers=["t2t_block_0"])
    assert list(default) == ["t2t_block_0"]
    rows = 1 if token_mixer == "performer" else 48
    assert default["t2t_block_0"].shape == (2, 1, rows, 48)
    if token_mixer == "performer":  # the centre: row 3, column 4
        np.testing.assert_allclose(
            default["t2t_block_0"][:, :, 0], everything["t2t_block_0"][:, :, 3 * 8 + 4], atol=1e-6
        )


@pytest.mark.above_backends
@pytest.mark.parametrize(
    "arguments",
    [
        {"flavor": "squeeze_excite"},
        {"flavor": "ghost"},
        {"flavor": "dense", "depth": (1, 1), "growth_rate": 6},
        {"token_mixer": "patch"},
        {"token_mixer": "convolution"},
        {"include_top": False},
    ],
    ids=str,
)
def test_every_kind_of_model(arguments):
    model, x = small_model(**arguments), images()
    maps = attention_maps(model, x)
    blocks = [layer.name for layer in model.layers if "_block_" in layer.name]
    assert list(maps) == blocks
    for attention in maps.values():
        np.testing.assert_allclose(attention.sum(axis=-1), 1, atol=1e-4)


@pytest.mark.above_backends
def test_a_trained_and_saved_model(tmp_path):
    model, x = small_model(), images(8)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(x, np.arange(8) % 5, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    before = loaded.predict(x, verbose=0)
    expected, maps = attention_maps(model, x), attention_maps(loaded, x)
    assert list(maps) == list(expected)
    for name in maps:
        np.testing.assert_allclose(maps[name], expected[name], atol=1e-5)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), before)


@pytest.mark.above_backends
def test_half_precision():
    expected = attention_maps(small_model(), images())
    keras.config.set_dtype_policy("mixed_bfloat16")
    for name, attention in attention_maps(small_model(), images()).items():
        assert attention.dtype == "float32"
        np.testing.assert_allclose(attention, expected[name], atol=0.1)


def test_rollout_by_hand():
    # Two heads, whose mean counts; two tokens.
    first = np.array([[[[1.0, 0], [0, 1]], [[0, 1], [1, 0]]]])  # mean: all 0.5
    second = np.array([[[[0.2, 0.8], [1, 0]], [[0.2, 0.8], [1, 0]]]])
    # (A + I) / 2 is [[.75, .25], [.25, .75]] and then [[.6, .4], [.5, .5]].
    expected = [[[0.6 * 0.75 + 0.4 * 0.25, 0.6 * 0.25 + 0.4 * 0.75], [0.5, 0.5]]]
    np.testing.assert_allclose(attention_rollout([first, second]), expected, atol=1e-7)
    # The first block's attention is nearest to the image: the order matters.
    assert not np.allclose(attention_rollout([second, first]), expected)


@pytest.mark.above_backends
def test_rollout_and_class_token_attention_of_a_model():
    model, x = small_model(), images()
    maps = attention_maps(model, x)
    rollout = attention_rollout(maps)
    assert rollout.shape == (2, 5, 5)
    np.testing.assert_allclose(rollout.sum(axis=-1), 1, atol=1e-5)
    blocks = [maps["encoder_block_0"], maps["encoder_block_1"]]
    np.testing.assert_array_equal(rollout, attention_rollout(blocks))

    last = class_token_attention(maps)
    np.testing.assert_array_equal(last, maps["encoder_block_1"][:, :, 0, 1:])
    assert token_grid(model) == (2, 2)
    np.testing.assert_array_equal(on_grid(model, last)[..., 1, 0], last[..., 2])


def test_errors_say_what_is_expected():
    model, x = small_model(), images()
    with pytest.raises(ValueError, match="layers: expected names among .*, got 'norm'"):
        attention_maps(model, x, layers=["norm"])
    for queries in ((0.5, 0.5), [(0.5, 1.0)], [(-0.1, 0)], "centre"):
        with pytest.raises(ValueError, match='queries: expected "all" or'):
            attention_maps(model, x, queries=queries)
    with pytest.raises(ValueError, match=r"images: expected shape \(batch, 24, 32, 3\), .* got"):
        attention_maps(model, x[0])
    with pytest.raises(ValueError, match=r"expected shape .* got \(2, 24, 24, 3\)"):
        attention_maps(model, x[:, :, :24])
    with pytest.raises(ValueError, match="values: expected one for each of the 2 x 2 patch"):
        on_grid(model, np.zeros((2, 5)))
    with pytest.raises(ValueError, match="at least one encoder block, got none"):
        attention_rollout(attention_maps(model, x, layers=["t2t_block_0"]))
    nested = keras.Sequential([keras.Input((24, 32, 3)), model])
    with pytest.raises(ValueError, match="has no encoder block. Pass model.get_layer"):
        attention_maps(nested, x)
    maps = attention_maps(nested.get_layer(model.name), x)
    np.testing.assert_allclose(
        maps["encoder_block_1"], attention_maps(model, x)["encoder_block_1"], atol=1e-6
    )
