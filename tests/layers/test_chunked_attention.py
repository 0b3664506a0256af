"""Attention in parts against attention as a whole, and what it holds in memory."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_t2t.layers import SelfAttention, attention, chunked_attention
from tests.gradients import gradients
from tests.layers.tensor_sizes import largest_tensor


@pytest.fixture
def in_parts(monkeypatch):
    """Lets every attention run in parts, of at most `values` values."""

    def begin(values):
        monkeypatch.setattr(attention, "WHOLE_ATTENTION", 0)
        monkeypatch.setattr(chunked_attention, "CHUNK", values)

    return begin


def layer_and_tokens(count=12, **arguments):
    layer = SelfAttention(dim=8, value_shortcut=True, seed=1, **arguments)
    layer.build((None, count, 6))
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    return layer, rng.normal(size=(3, count, 6)).astype("float32")


@pytest.mark.not_torch
@pytest.mark.parametrize("values", [1, 24, 40, 1000])
def test_equals_the_formula(values, monkeypatch):
    monkeypatch.setattr(chunked_attention, "CHUNK", values)
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(2, 3, n, 4)).astype("float32") for n in (6, 8, 8))
    scores = np.exp(0.7 * query.astype("float64") @ key.transpose(0, 1, 3, 2))
    expected = scores / scores.sum(-1, keepdims=True) @ value
    y = chunked_attention.chunked_attention(query, key, value, 0.7, "float32")
    np.testing.assert_allclose(ops.convert_to_numpy(y), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.not_torch
@pytest.mark.parametrize("heads, values", [(1, 36), (2, 30)])
def test_gradients_equal_those_of_the_whole(heads, values, in_parts):
    layer, x = layer_and_tokens(num_heads=heads)
    weights = np.random.default_rng(1).normal(size=(3, 12, 8)).astype("float32")
    loss = lambda y, weights: ops.sum(y * weights)  # noqa: E731
    _, whole, whole_by_input = gradients(layer, loss, x, weights)
    in_parts(values)
    _, parts, parts_by_input = gradients(layer, loss, x, weights)
    scale = max(np.abs(gradient).max() for gradient in whole)
    for ours, expected in zip([*parts, parts_by_input], [*whole, whole_by_input], strict=True):
        np.testing.assert_allclose(ours, expected, atol=3e-6 * scale)


@pytest.mark.not_torch
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy, in_parts):
    keras.config.set_dtype_policy(policy)
    layer, x = layer_and_tokens()
    loss = lambda y: ops.mean(ops.square(ops.cast(y, "float32")))  # noqa: E731
    whole, *_ = gradients(layer, loss, x)
    in_parts(36)
    parts, by_variables, _ = gradients(layer, loss, x)
    assert parts == pytest.approx(whole, rel=0.02)
    assert all(np.isfinite(gradient.astype("float32")).all() for gradient in by_variables)


def test_memory_grows_with_the_tokens_and_not_with_their_square(in_parts, monkeypatch):
    def sizes():
        for count in (64, 128):
            layer, x = layer_and_tokens(count)
            yield largest_tensor(layer, ops.convert_to_tensor(x))

    with monkeypatch.context() as patch:
        patch.setattr(attention, "fused_attention", lambda dtype: False)
        assert list(sizes()) == [3 * 64**2, 3 * 128**2]
    in_parts(64)  # PyTorch has a kernel for all
    small, large = sizes()
    assert large <= 2 * small
    assert large < 3 * 128**2 / 4


@pytest.mark.parametrize("heads", [1, 2])
def test_the_fused_form_equals_the_whole(heads, monkeypatch):
    layer, x = layer_and_tokens(num_heads=heads)
    weights = np.random.default_rng(1).normal(size=(3, 12, 8)).astype("float32")

    def computed(fused):
        monkeypatch.setattr(attention, "fused_attention", lambda dtype: fused)
        _, by_variables, by_input = gradients(
            layer, lambda y, weights: ops.sum(y * weights), x, weights
        )
        return ops.convert_to_numpy(layer(x)), *by_variables, by_input

    for fused, whole in zip(computed(True), computed(False), strict=True):
        np.testing.assert_allclose(fused, whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())


def test_dropped_attention_stays_whole(in_parts):
    layer, x = layer_and_tokens(attention_dropout_rate=0.5)
    whole = ops.convert_to_numpy(layer(x))
    in_parts(36)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), whole, rtol=1e-5, atol=1e-5)
    trained = ops.convert_to_numpy(layer(x, training=True))
    assert np.abs(trained - whole).max() > 0.1
