"""SoftSplit and Restructurization against NumPy, Keras' extract_patches and each other."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_t2t.layers import Restructurization, SoftSplit


def reference(x, kernel, strides, padding):
    """Patches by sliding windows over the padded array, in the order (row, column, channel)."""
    x = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, (1, 2))
    windows = windows[:, :: strides[0], :: strides[1]].transpose(0, 1, 2, 4, 5, 3)
    return windows.reshape(*windows.shape[:3], -1)


@pytest.mark.parametrize("kernel, stride, padding", [(7, 4, 2), (3, 2, 1), (3, 1, 1), (4, 4, 0)])
@pytest.mark.parametrize("size", [(28, 28), (30, 21)])
def test_equals_extract_patches_after_zero_padding(kernel, stride, padding, size):
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    expected = ops.image.extract_patches(padded, (kernel, kernel), (stride, stride))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(SoftSplit(kernel, stride, padding)(x)),
        ops.convert_to_numpy(expected),
    )


# JAX compiles every new shape.
@settings(max_examples=10 if keras.backend.backend() == "jax" else 60, deadline=None)
@given(data=st.data())
def test_equals_sliding_windows(data):
    pairs = lambda low, high: st.tuples(*[st.integers(low, high)] * 2)  # noqa: E731
    kernel, strides = data.draw(pairs(1, 5)), data.draw(pairs(1, 6))
    padding = data.draw(pairs(0, 3))
    size = data.draw(pairs(max(kernel), 13))
    channels = data.draw(st.integers(1, 3))
    x = np.random.default_rng(0).normal(size=(2, *size, channels)).astype("float32")
    layer = SoftSplit(kernel, strides, padding)
    y = ops.convert_to_numpy(layer(x))
    np.testing.assert_array_equal(y, reference(x, kernel, strides, padding))
    assert layer.compute_output_shape(x.shape) == y.shape


def test_published_shapes():
    x = keras.Input((224, 224, 3))
    x = SoftSplit(7, 4, 2)(x)
    assert x.shape == (None, 56, 56, 147)
    x = SoftSplit(3, 2, 1)(keras.Input((56, 56, 64)))
    assert x.shape == (None, 28, 28, 576)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"kernel_size": 0}, "kernel_size=0"),
        ({"kernel_size": (3, 3, 3)}, r"kernel_size=\(3, 3, 3\)"),
        ({"kernel_size": 3, "strides": 1.5}, "strides=1.5"),
        ({"kernel_size": 3, "padding": -1}, "padding=-1"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SoftSplit(**arguments)


def test_input_smaller_than_the_kernel():
    with pytest.raises(ValueError, match="leaves no token"):
        SoftSplit(7, 4, 1)(np.zeros((1, 4, 20, 3), "float32"))


@pytest.mark.parametrize("shape", [(None, None, 8, 3), (None, 8, 3)])
def test_unknown_size_or_rank(shape):
    with pytest.raises(ValueError, match="height, width, channels"):
        SoftSplit(3, 2, 1).build(shape)


def test_restructurization_undoes_flattening():
    grid = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    tokens = grid.reshape(2, 15, 4)
    np.testing.assert_array_equal(ops.convert_to_numpy(Restructurization((3, 5))(tokens)), grid)
    assert Restructurization()(np.zeros((2, 49, 4), "float32")).shape == (2, 7, 7, 4)
    with pytest.raises(ValueError, match="15 tokens do not fill a grid of 3 x 3"):
        Restructurization()(tokens)
    with pytest.raises(ValueError, match="15 tokens do not fill a grid of 4 x 5"):
        Restructurization((4, 5))(tokens)
