"""Equal, faster forms of what the layers compute, on tensors of any backend."""

import math

import keras
from keras import ops

from keras_t2t.compat import compiled_by_xla
from keras_t2t.layers.composite import on_tokens

# Exported files name linear layers so whose inputs or outputs have no range to speak of: they stand
# in an exponent, or are weighted by exponentials.
UNBOUNDED = "unbounded"


def linear(x, kernel, bias=None):
    """`x kernel + bias` as one product over all tokens, for which every runtime has a kernel."""

    def apply(x):
        y = ops.matmul(x, kernel)
        return y if bias is None else y + bias

    return on_tokens(apply, x)


def performer(key, query, value, features, kernel, bias):
    """The projection of the Performer's weighted values, by fewer products than tokens ask for.

    The tokens share the sums of values, one for each random feature, so that projecting these
    projects all tokens. A query's `-|q|^2 / 2` is the same for all features and cancels, but for
    the published epsilon. Means stand for the sums over tokens, which could overflow in runtimes
    that compute in float16. Peaks cancel too: no gradient needs to pass through them.

    Args:
        key, query, value: Tensors `(batch, tokens, dim)`, at least float32.
        features: Tensor `(m, dim)`, the random features.
        kernel, bias: Of the projection, `(dim, dim)` and `(dim,)`.

    Returns:
        Tensor `(batch, tokens, dim)`, to which `PerformerAttention` adds the values.
    """
    tokens, features = key.shape[1], ops.transpose(features)
    with keras.name_scope(UNBOUNDED):
        log_key, log_query = linear(key, features), linear(query, features)
    log_key = log_key - 0.5 * ops.sum(key * key, axis=-1, keepdims=True)
    key_peak = ops.stop_gradient(ops.max(log_key, axis=1, keepdims=True))
    key_features = ops.exp(log_key - key_peak)
    log_query = log_query + key_peak
    query_peak = ops.stop_gradient(ops.max(log_query, axis=-1, keepdims=True))
    query_features = ops.exp(log_query - query_peak)
    half_square = 0.5 * ops.sum(query * query, axis=-1, keepdims=True)
    log_epsilon = math.log(1e-8 * features.shape[1] / tokens) + half_square - query_peak
    key_mean = ops.mean(key_features, axis=1, keepdims=True)
    total = ops.sum(query_features * key_mean, axis=-1, keepdims=True)
    total = total + ops.exp(ops.minimum(log_epsilon, 80.0))
    weighted = ops.matmul(ops.transpose(key_features, (0, 2, 1)), value) * (1 / tokens)
    with keras.name_scope(UNBOUNDED):
        weighted = linear(weighted, kernel)
    return ops.matmul(query_features, weighted) / total + bias


def class_token_attention(x, query, key, value, num_heads, scale, dtype):
    """The values that the class token's attention reads out of the tokens.

    With one query, a head's keys and values need not be computed: what the query asks of the keys
    it can ask of the tokens, `q . (W x) = (q W) . x`, and the mean of the values is the value of
    the tokens' mean. The keys' bias is the same for all tokens, so that the softmax takes it out.

    Args:
        x: Tensor `(batch, tokens, channels)`, the class token first.
        query, value: Pairs of kernel `(channels, channels)` and bias, which may be `None`.
        key: The kernel alone.
        num_heads: Int.
        scale: Float that multiplies the products of queries and keys.
        dtype: That of the softmax.

    Returns:
        Tensor `(batch, 1, channels)`.
    """
    asks, size = linear(x[:, :1], *query) * scale, x.shape[-1] // num_heads
    heads = [slice(start, start + size) for start in range(0, x.shape[-1], size)]
    asked = [linear(asks[..., head], ops.transpose(key[:, head])) for head in heads]
    scores = ops.matmul(joined(asked, axis=1), ops.transpose(x, (0, 2, 1)))
    attention = ops.cast(ops.softmax(ops.cast(scores, dtype)), x.dtype)
    means, (kernel, bias) = ops.matmul(attention, x), value
    values = [
        linear(means[:, i : i + 1], kernel[:, head], None if bias is None else bias[head])
        for i, head in enumerate(heads)
    ]
    return joined(values, axis=-1)


def joined(parts, axis, most=4):
    """The parts, one behind the other: XNNPACK joins few at a time."""
    while len(parts) > 1:
        groups = [parts[start : start + most] for start in range(0, len(parts), most)]
        parts = [ops.concatenate(group, axis) if len(group) > 1 else group[0] for group in groups]
    return parts[0]


def split_linear(images, soft_split, dense):
    """`dense(soft_split(images))` as one convolution, without its activation."""
    images = ops.cast(images, dense.compute_dtype)
    x = _convolution(images, soft_split, ops.cast(dense.kernel, dense.compute_dtype))
    return x + ops.cast(dense.bias, x.dtype) if dense.use_bias else x


def split_norm_linear(images, soft_split, norm, dense):
    """`dense(norm(soft_split(images)))` of flattened patches: `(batch, rows * columns, units)`.

    With the norm's scale in the kernel, and each column of that freed of its mean, the patches'
    means drop out of the products; what is left of the norm is the division by the patches'
    standard deviation, which is put together from their pixels' means and squared deviations.
    Both avoid the difference of large numbers that the mean of squares would be.
    """
    dtype = keras.backend.result_type(dense.compute_dtype, "float32")
    kernel = ops.cast(dense.kernel, dtype)
    scaled = ops.expand_dims(ops.cast(norm.gamma, dtype), 1) * kernel
    scaled = ops.cast(scaled - ops.mean(scaled, axis=0, keepdims=True), dense.compute_dtype)
    offset = ops.matmul(ops.expand_dims(ops.cast(norm.beta, dtype), 0), kernel)
    if dense.use_bias:
        offset = offset + ops.cast(dense.bias, dtype)
    x = ops.cast(images, dtype)
    mean = ops.mean(x, axis=-1, keepdims=True)
    deviation = ops.mean(ops.square(x - mean), axis=-1, keepdims=True)
    # Not by __call__, which would cast to the layer's precision.
    mean, deviation = soft_split.call(mean), soft_split.call(deviation)
    variance = ops.mean(deviation, axis=-1, keepdims=True) + ops.var(mean, axis=-1, keepdims=True)
    x = _convolution(ops.cast(images, dense.compute_dtype), soft_split, scaled)
    x = ops.cast(x, dtype) * ops.rsqrt(variance + norm.epsilon) + offset
    _, rows, columns, units = x.shape
    return ops.cast(ops.reshape(x, (-1, rows * columns, units)), dense.compute_dtype)


def _convolution(images, soft_split, kernel):
    """Patches of the images times the kernel, whose rows are (kernel row, column, channel)."""
    kernel = ops.reshape(kernel, (*soft_split.kernel_size, images.shape[-1], kernel.shape[-1]))
    height, width = soft_split.padding
    images = ops.pad(images, ((0, 0), (height, height), (width, width), (0, 0)))
    return ops.conv(images, kernel, soft_split.strides, "valid", data_format="channels_last")


def dropout(layer, inputs, training):
    """`layer(inputs)` of a Dropout layer, drawn by Threefry where TensorFlow compiles.

    XLA's default, Philox, takes four times as long on CPUs: a fifth of the training step of the
    Performer's stem. TensorFlow's own kernels have no Threefry.
    """
    if not (training and layer.rate and keras.backend.backend() == "tensorflow"):
        return layer(inputs, training=training)
    if not compiled_by_xla():
        return layer(inputs, training=training)
    import tensorflow as tf

    seed = tf.cast(layer.seed_generator.next(), "int32")
    return tf.nn.experimental.stateless_dropout(inputs, layer.rate, seed, rng_alg="threefry")
