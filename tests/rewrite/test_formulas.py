"""Soft splits folded into linear layers against the patches themselves, in float64."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_t2t.layers import SoftSplit
from keras_t2t.rewrite.formulas import split_linear, split_norm_linear


def parts(channels, kernel, strides=2, padding=1, units=5):
    """A soft split, a norm and a linear layer with drawn weights."""
    split = SoftSplit(kernel, strides, padding)
    inputs = np.prod(split.kernel_size) * channels
    norm = keras.layers.LayerNormalization(epsilon=1e-5)
    linear = keras.layers.Dense(units)
    rng = np.random.default_rng(1)
    for layer in (norm, linear):
        layer.build((None, None, inputs))
        for variable in layer.weights:
            variable.assign(rng.normal(size=variable.shape))
    return split, norm, linear


def patches(split, images):
    return ops.convert_to_numpy(split(images)).astype("float64")


def apply(linear, x):
    kernel, bias = (ops.convert_to_numpy(v).astype("float64") for v in linear.weights)
    return x @ kernel + bias


def normalised(norm, x):
    gamma, beta = (ops.convert_to_numpy(v).astype("float64") for v in norm.weights)
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt(x.var(-1, keepdims=True) + norm.epsilon) * gamma + beta


# JAX compiles every new shape.
@settings(max_examples=5 if keras.backend.backend() == "jax" else 20, deadline=None)
@given(data=st.data())
def test_any_soft_split(data):
    pairs = lambda low, high: st.tuples(*[st.integers(low, high)] * 2)  # noqa: E731
    kernel = data.draw(pairs(1, 4))
    split, norm, linear = parts(
        data.draw(st.integers(1, 3)), kernel, data.draw(st.integers(1, 4)), data.draw(pairs(0, 2))
    )
    size = data.draw(pairs(max(kernel), 10))
    channels = linear.kernel.shape[0] // np.prod(kernel)
    x = np.random.default_rng(0).normal(size=(2, *size, channels)).astype("float32")
    expected = apply(linear, patches(split, x))
    y = ops.convert_to_numpy(split_linear(x, split, linear))
    np.testing.assert_allclose(y, expected, atol=2e-5)
    expected = apply(linear, normalised(norm, patches(split, x))).reshape(2, -1, 5)
    y = ops.convert_to_numpy(split_norm_linear(x, split, norm, linear))
    # A patch of nearly equal values has no direction to speak of.
    flat = patches(split, x).std(-1).reshape(2, -1, 1) < 1e-3
    np.testing.assert_allclose(np.where(flat, 0, y), np.where(flat, 0, expected), atol=2e-3)


def folded_and_layer_errors(x, **arguments):
    """The largest errors of the folded form and of the layers one by one."""
    split, norm, linear = parts(x.shape[-1], **arguments)
    expected = apply(linear, normalised(norm, patches(split, x))).reshape(len(x), -1, 5)
    folded = ops.convert_to_numpy(split_norm_linear(x, split, norm, linear))
    layers = ops.convert_to_numpy(linear(norm(split(x)))).reshape(expected.shape)
    return np.abs(folded - expected).max(), np.abs(layers - expected).max()


def test_as_exact_as_the_layers_on_ordinary_inputs():
    x = np.random.default_rng(0).normal(size=(2, 20, 24, 16)).astype("float32")
    folded, layers = folded_and_layer_errors(x, kernel=3)
    assert folded < 2 * layers + 1e-6 and folded < 2e-5


@pytest.mark.parametrize("offset, noise", [(10, 1), (100, 1), (1, 0.01)])
def test_large_means_cost_a_few_digits_at_most(offset, noise):
    """Both forms lose the digits that the mean takes up; the folded one up to three bits more."""
    rng = np.random.default_rng(0)
    x = (offset + noise * rng.normal(size=(2, 12, 12, 16))).astype("float32")
    folded, layers = folded_and_layer_errors(x, kernel=3, padding=0)
    assert folded < 8 * layers


@pytest.mark.parametrize("value", [0.0, 1.0, 255.0])
def test_flat_patches_give_the_norms_offset(value):
    x = np.full((1, 8, 8, 3), value, "float32")
    split, norm, linear = parts(3, 3, padding=0)
    beta = ops.convert_to_numpy(norm.beta).astype("float64")
    y = ops.convert_to_numpy(split_norm_linear(x, split, norm, linear))
    # What is left of the mean, 6e-8 of it for each product, is divided by sqrt(1e-5) = 1 / 316.
    tolerance = 1e-5 + 316 * 6e-8 * value * 27
    np.testing.assert_allclose(y[0, 0], apply(linear, beta), atol=tolerance)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    x = np.random.default_rng(0).normal(size=(2, 12, 12, 8)).astype("float32")
    split, norm, linear = parts(8, 3)
    x = ops.cast(x, linear.compute_dtype)
    expected = apply(linear, normalised(norm, patches(split, ops.cast(x, "float32"))))
    y = split_norm_linear(x, split, norm, linear)
    assert keras.backend.standardize_dtype(y.dtype) == linear.compute_dtype
    error = ops.convert_to_numpy(ops.cast(y, "float32")) - expected.reshape(2, -1, 5)
    eps = {"mixed_float16": 2.0**-10, "mixed_bfloat16": 2.0**-7}[policy]
    # Each of 72 products of standard deviation 1 is rounded by at most eps / 2, twice.
    assert np.abs(error).max() < 4 * eps * 72**0.5
