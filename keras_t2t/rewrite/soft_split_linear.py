"""A soft split folded into the linear layer after it: a convolution, without the patches."""

import keras
from keras import ops

from keras_t2t.layers.composite import is_plain


def folds(soft_split, linear):
    """Whether a linear layer can be given to the functions below."""
    # TensorFlow's convolution on CPUs is wrong where the strides of rows and columns differ.
    return is_plain(linear) and soft_split.strides[0] == soft_split.strides[1]


def split_linear(images, soft_split, linear):
    """`linear(soft_split(images))` as one convolution: `(batch, rows, columns, units)`."""
    images = ops.cast(images, linear.compute_dtype)
    x = _convolution(images, soft_split, ops.cast(linear.kernel, linear.compute_dtype))
    return x + ops.cast(linear.bias, x.dtype) if linear.use_bias else x


def split_norm_linear(images, soft_split, norm, linear):
    """`linear(norm(soft_split(images)))` of flattened patches: `(batch, rows * columns, units)`.

    With the norm's scale in the kernel, and each column of that freed of its mean, the patches'
    means drop out of the products; what is left of the norm is the division by the patches'
    standard deviation, which is put together from their pixels' means and squared deviations.
    Both avoid the difference of large numbers that the mean of squares would be.
    """
    dtype = keras.backend.result_type(linear.compute_dtype, "float32")
    kernel = ops.cast(linear.kernel, dtype)
    scaled = ops.expand_dims(ops.cast(norm.gamma, dtype), 1) * kernel
    scaled = ops.cast(scaled - ops.mean(scaled, axis=0, keepdims=True), linear.compute_dtype)
    offset = ops.matmul(ops.expand_dims(ops.cast(norm.beta, dtype), 0), kernel)
    if linear.use_bias:
        offset = offset + ops.cast(linear.bias, dtype)
    x = ops.cast(images, dtype)
    mean = ops.mean(x, axis=-1, keepdims=True)
    deviation = ops.mean(ops.square(x - mean), axis=-1, keepdims=True)
    # Not by __call__, which would cast to the layer's precision.
    mean, deviation = soft_split.call(mean), soft_split.call(deviation)
    variance = ops.mean(deviation, axis=-1, keepdims=True) + ops.var(mean, axis=-1, keepdims=True)
    x = _convolution(ops.cast(images, linear.compute_dtype), soft_split, scaled)
    x = ops.cast(x, dtype) * ops.rsqrt(variance + norm.epsilon) + offset
    _, rows, columns, units = x.shape
    return ops.cast(ops.reshape(x, (-1, rows * columns, units)), linear.compute_dtype)


def _convolution(images, soft_split, kernel):
    """Patches of the images times the kernel, whose rows are (kernel row, column, channel)."""
    kernel = ops.reshape(kernel, (*soft_split.kernel_size, images.shape[-1], kernel.shape[-1]))
    height, width = soft_split.padding
    images = ops.pad(images, ((0, 0), (height, height), (width, width), (0, 0)))
    return ops.conv(images, kernel, soft_split.strides, "valid", data_format="channels_last")
