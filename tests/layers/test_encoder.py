"""Encoder blocks: drop path, the Dense flavour, SE, Ghost, MLP and the whole encoder."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy.special import erf

from keras_t2t.layers import (
    MLP,
    DenseEncoderBlock,
    Encoder,
    EncoderBlock,
    GhostAttention,
    GhostMLP,
    SqueezeExcite,
    T2TBlock,
    TokenPooling,
)
from keras_t2t.layers.embedding import sinusoid_table


def tokens(batch=2, count=5, channels=12):
    return np.random.default_rng(0).normal(size=(batch, count, channels)).astype("float32")


def randomize(layer):
    rng = np.random.default_rng(1)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))


def arrays(*variables):
    return [ops.convert_to_numpy(variable).astype("float64") for variable in variables]


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def test_mlp_uses_the_exact_gelu():
    layer, x = MLP(20), tokens()
    layer.build(x.shape)
    randomize(layer)
    w1, b1, w2, b2 = arrays(*layer.weights)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)), gelu(x @ w1 + b1) @ w2 + b2, rtol=1e-4, atol=1e-4
    )


def test_ghost_mlp():
    layer, x = GhostMLP(36), tokens()
    layer.build(x.shape)
    randomize(layer)
    w1, b1, c2, c3, w2, b2 = arrays(
        layer.fc1.kernel, layer.fc1.bias, layer.cheap_2, layer.cheap_3, *layer.fc2.weights
    )
    first = gelu(x @ w1 + b1)
    hidden = np.concatenate((first, gelu(first * c2), gelu(first * c3)), -1)
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)), hidden @ w2 + b2, rtol=1e-4, atol=1e-4
    )


def test_ghost_attention_copies_half_of_the_channels():
    layer, x = GhostAttention(2), tokens()
    layer.build(x.shape)
    randomize(layer)
    for name, part in zip(("query", "key", "value"), layer.query_key_value(x), strict=True):
        half = x @ arrays(getattr(layer, name).kernel)[0]
        (cheap,) = arrays(getattr(layer, f"cheap_{name}"))
        np.testing.assert_allclose(
            ops.convert_to_numpy(part),
            np.concatenate((half, half * cheap), -1),
            rtol=1e-4,
            atol=1e-4,
        )


def test_squeeze_excite():
    layer, x = SqueezeExcite(4), tokens()
    layer.build(x.shape)
    randomize(layer)
    w1, w2 = arrays(*layer.weights)
    gate = 1 / (1 + np.exp(-np.maximum(x.mean(1) @ w1, 0) @ w2))
    np.testing.assert_allclose(
        ops.convert_to_numpy(layer(x)), x * gate[:, None], rtol=1e-5, atol=1e-5
    )


def test_drop_path_skips_whole_branches_and_keeps_the_mean():
    block = EncoderBlock(3, drop_path_rate=0.5, seed=1)
    x = tokens(1, channels=12)
    block.build(x.shape)
    randomize(block)
    attention = ops.convert_to_numpy(block.attention(block.norm1(x)))
    batch = np.repeat(x, 400, axis=0)
    kept = ops.convert_to_numpy(block.drop_path1(np.repeat(attention, 400, 0), training=True))
    share = kept / attention
    # One draw for an example: skipped, or doubled so that the mean stays.
    for example in share:
        assert np.allclose(example, 0) or np.allclose(example, 2)
    assert 0.4 < (share[:, 0, 0] > 0).mean() < 0.6
    trained = ops.convert_to_numpy(block(batch, training=True))
    assert (trained == batch).all(axis=(1, 2)).mean() > 0.15  # Both branches skipped: 1 in 4.
    np.testing.assert_array_equal(
        ops.convert_to_numpy(block(x)), ops.convert_to_numpy(block(x, training=False))
    )


def test_dense_block_appends_to_its_input():
    block, x = DenseEncoderBlock(3, growth_rate=5), tokens()
    block.build(x.shape)
    randomize(block)
    y = ops.convert_to_numpy(block(x))
    np.testing.assert_array_equal(y[..., :12], x)
    plain = EncoderBlock(3)
    plain.build(x.shape)
    for ours, theirs in zip(plain.weights, block.weights, strict=False):
        ours.assign(theirs)
    inner = ops.convert_to_numpy(plain(x))
    w, b = arrays(*block.growth.weights)
    np.testing.assert_allclose(y[..., 12:], inner @ w + b, rtol=1e-4, atol=1e-4)


def test_encoder_is_its_blocks_and_a_norm():
    encoder, x = Encoder(3, 3, drop_path_rate=0.2), tokens()
    y = x
    encoder.build(x.shape)
    randomize(encoder)
    assert [block.drop_path_rate for block in encoder.blocks] == [0, 0.1, 0.2]
    for block in encoder.blocks:
        y = block(y)
    y = ops.convert_to_numpy(y).astype("float64")
    gamma, beta = arrays(encoder.norm.gamma, encoder.norm.beta)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(
        ops.convert_to_numpy(encoder(x)), y * gamma + beta, rtol=1e-3, atol=1e-3
    )


def test_t2t_block_treats_a_grid_as_its_tokens():
    block = T2TBlock(8, seed=1)
    grid = np.random.default_rng(0).normal(size=(2, 3, 4, 6)).astype("float32")
    y = ops.convert_to_numpy(block(grid))
    sequence = T2TBlock(8, seed=1)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(sequence(grid.reshape(2, 12, 6))), y.reshape(2, 12, 8)
    )


def test_sinusoid_table_by_hand():
    table = sinusoid_table(5, 6)
    assert table.shape == (1, 5, 6) and table.dtype == np.float32
    for position in range(5):
        for channel in range(6):
            angle = position / 10000 ** (2 * (channel // 2) / 6)
            expected = np.cos(angle) if channel % 2 else np.sin(angle)
            np.testing.assert_allclose(table[0, position, channel], expected, atol=1e-7)


def test_pooling():
    x = tokens()
    for mode, expected in (("token", x[:, 0]), ("avg", x[:, 1:].mean(1)), ("max", x[:, 1:].max(1))):
        y = ops.convert_to_numpy(TokenPooling(mode)(x))
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: EncoderBlock(5)(tokens()), "num_heads=5, channels=12"),
        (lambda: EncoderBlock(3, flavor="cheap"), "flavor='cheap'"),
        (lambda: EncoderBlock(3, mlp_ratio=0), "mlp_ratio=0"),
        (lambda: EncoderBlock(2, 2.0, flavor="ghost")(tokens()), "hidden_dim=24, channels=12"),
        (lambda: GhostAttention(1)(tokens(channels=9)), "channels=9"),
        (lambda: SqueezeExcite(16)(tokens()), "reduction=16, channels=12"),
        (lambda: T2TBlock(8, "convolution"), "token_mixer='convolution'"),
        (lambda: T2TBlock(8).build((None, 9)), "expected an input of shape"),
        (lambda: T2TBlock(8).build((None, None, 4, 3)), "expected an input of shape"),
        (lambda: TokenPooling("mean"), "mode='mean'"),
        (lambda: Encoder(0), "depth=0"),
        (lambda: DenseEncoderBlock(3, growth_rate=0), "growth_rate=0"),
        (lambda: MLP(2.5), "hidden_dim=2.5"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tokens_may_be_of_unknown_number():
    inputs = keras.Input((None, 12))
    model = keras.Model(inputs, Encoder(1, 3)(T2TBlock(12)(inputs)))
    for count in (4, 9):
        assert model(tokens(count=count)).shape == (2, count, 12)
