"""The Performer's numerics and softmax attention, against the published formulas in float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_t2t.layers import PerformerAttention, SelfAttention
from keras_t2t.rewrite.fusing import fused_performer
from tests.gradients import gradients

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")


def published_performer(layer, x, with_epsilon=True):
    """The published formula in float64; overflows and underflows as that does."""
    kernel, bias, w, projection, projection_bias = (
        ops.convert_to_numpy(variable).astype("float64")
        for variable in (
            layer.kqv.kernel,
            layer.kqv.bias,
            layer.features,
            layer.projection.kernel,
            layer.projection.bias,
        )
    )
    k, q, v = np.split(x.astype("float64") @ kernel + bias, 3, axis=-1)

    def phi(x):
        return np.exp(x @ w.T - (x**2).sum(-1, keepdims=True) / 2) / np.sqrt(len(w))

    phi_k, phi_q = phi(k), phi(q)
    numerator = phi_q @ (phi_k.transpose(0, 2, 1) @ v)
    denominator = phi_q @ phi_k.sum(1)[:, :, None] + 1e-8
    return v + (numerator / denominator) @ projection + projection_bias


class FusedPerformer(PerformerAttention):
    def call(self, inputs, training=False):
        return fused_performer(self, *ops.split(self.kqv(inputs), 3, axis=-1), training)


BOTH = pytest.mark.parametrize("kind", [PerformerAttention, FusedPerformer])


def performer(scale=1.0, channels=24, dim=16, kind=PerformerAttention):
    """A Performer whose keys and queries have standard deviation `scale` on N(0, 1) inputs."""
    layer = kind(dim, seed=1)
    layer.build((None, None, channels))
    rng = np.random.default_rng(0)
    layer.kqv.kernel.assign(scale * rng.normal(size=(channels, 3 * dim)) / channels**0.5)
    layer.projection.kernel.assign(rng.normal(size=(dim, dim)) / dim**0.5)
    return layer, rng.normal(size=(2, 50, channels)).astype("float32")


@BOTH
@pytest.mark.parametrize("scale", [0.01, 1, 10, 100])
def test_performer_equals_the_published_formula(scale, kind):
    layer, x = performer(scale, kind=kind)
    with np.errstate(all="ignore"):
        expected = published_performer(layer, x)
    finite = np.isfinite(expected)
    # At the largest scale the published formula itself underflows to v + 0 / 1e-8.
    assert finite.all()
    # Exponents are of the order |k|^2: float32 keeps 1e-7 of them.
    tolerance = 1e-5 * max(1, scale) ** 2
    y = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(y, expected, atol=tolerance * np.abs(expected).max())


def test_performer_of_keys_and_queries_on_different_features():
    layer, _ = performer(channels=16)
    # Keys along w[0], queries along -w[0]: every product of features is tiny.
    w = ops.convert_to_numpy(layer.features)
    kernel = np.zeros((16, 48), "float32")
    kernel[0, :16], kernel[1, 16:32] = 6 * w[0], -6 * w[0]
    kernel[2:, 32:] = np.random.default_rng(1).normal(size=(14, 16))
    layer.kqv.kernel.assign(kernel)
    x = np.random.default_rng(2).normal(size=(2, 20, 16)).astype("float32")
    x[..., :2] = 1
    expected = published_performer(layer, x)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), expected, atol=1e-4)


@BOTH
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scale", [0.01, 1, 10, 100])
def test_performer_stays_finite(policy, scale, kind):
    keras.config.set_dtype_policy(policy)
    layer, x = performer(scale, kind=kind)
    value, by_variables, by_input = gradients(layer, lambda y: ops.mean(ops.cast(y, "float32")), x)
    assert np.isfinite(value)
    for gradient in [*by_variables, by_input]:
        assert np.isfinite(gradient.astype("float32")).all()


@BOTH
@pytest.mark.parametrize("policy", POLICIES)
def test_performer_stays_finite_where_keys_and_queries_do_not_meet(policy, kind):
    keras.config.set_dtype_policy(policy)
    layer, x = performer(channels=16, kind=kind)
    w = ops.convert_to_numpy(layer.features)
    kernel = np.zeros((16, 48), "float32")
    for scale in (1, 10, 100):
        kernel[:, :16], kernel[:, 16:32] = scale * w[0], -scale * w[1]
        layer.kqv.kernel.assign(kernel)
        value, by_variables, by_input = gradients(
            layer, lambda y: ops.mean(ops.cast(y, "float32")), x
        )
        assert np.isfinite(value)
        for gradient in [*by_variables, by_input]:
            assert np.isfinite(gradient.astype("float32")).all()


@BOTH
def test_performer_gradient_equals_finite_differences(kind):
    layer, x = performer(2.0, kind=kind)
    x = x[:, :6]
    direction = np.random.default_rng(3).normal(size=x.shape)
    weights = np.random.default_rng(4).normal(size=(2, 6, 16)).astype("float32")
    _, _, by_input = gradients(layer, lambda y, weights: ops.sum(y * weights), x, weights)
    step = 1e-5
    difference = sum(
        sign * (published_performer(layer, x + sign * step * direction) * weights).sum()
        for sign in (1, -1)
    )
    np.testing.assert_allclose((by_input * direction).sum(), difference / (2 * step), rtol=1e-4)


def test_random_features_are_orthogonal_rows():
    layer = PerformerAttention(64)
    layer.build((None, 10, 147))
    w = ops.convert_to_numpy(layer.features)
    np.testing.assert_allclose(w @ w.T, 32 * np.eye(32), atol=1e-4)
    assert not layer.features.trainable


@pytest.mark.parametrize("shortcut, dim, heads", [(False, None, 4), (True, 12, 1), (True, 12, 3)])
def test_self_attention_equals_numpy(shortcut, dim, heads):
    layer = SelfAttention(heads, dim, qkv_bias=True, value_shortcut=shortcut)
    x = np.random.default_rng(0).normal(size=(2, 7, 16)).astype("float32")
    layer.build(x.shape)
    rng = np.random.default_rng(1)
    for variable in layer.weights:
        variable.assign(rng.normal(size=variable.shape))
    kernel, bias, projection, projection_bias = (
        ops.convert_to_numpy(variable).astype("float64") for variable in layer.weights
    )
    dim = dim or 16
    q, k, v = np.split(x @ kernel + bias, 3, axis=-1)
    heads_of = lambda a: a.reshape(2, 7, heads, -1).transpose(0, 2, 1, 3)  # noqa: E731
    scores = heads_of(q) @ heads_of(k).transpose(0, 1, 3, 2) * (16 // heads) ** -0.5
    attention = np.exp(scores - scores.max(-1, keepdims=True))
    attention /= attention.sum(-1, keepdims=True)
    y = (attention @ heads_of(v)).transpose(0, 2, 1, 3).reshape(2, 7, dim)
    y = y @ projection + projection_bias + (v if shortcut else 0)
    np.testing.assert_allclose(ops.convert_to_numpy(layer(x)), y, rtol=1e-4, atol=1e-4)


def test_qk_scale_multiplies_the_scores():
    x = np.random.default_rng(0).normal(size=(1, 5, 8)).astype("float32")
    layers = [SelfAttention(2), SelfAttention(2, qk_scale=3 * 4**-0.5)]
    kernel = np.random.default_rng(1).normal(size=(8, 24))
    for layer, factor in zip(layers, (3, 1), strict=True):
        layer.build(x.shape)
        # Three times the query is three times the scale.
        layer.qkv.kernel.assign(kernel * np.repeat([factor, 1, 1], 8))
        layer.projection.kernel.assign(np.eye(8))
    outputs = [ops.convert_to_numpy(layer(x)) for layer in layers]
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_heads": 0}, "num_heads=0"),
        ({"dim": -1}, "dim=-1"),
        ({"qk_scale": 0}, "qk_scale=0"),
        ({"dropout_rate": 1.0}, "dropout_rate=1.0"),
        ({"attention_dropout_rate": -0.1}, "attention_dropout_rate=-0.1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SelfAttention(**arguments)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="num_heads=3, channels=16"):
        SelfAttention(3).build((None, 5, 16))
