"""The same network arranged for inference: kept in one piece and fast on edge runtimes."""

import functools
import math

import keras
import numpy as np
import tensorflow as tf

from keras_t2t.layers import (
    ClassToken,
    EncoderBlock,
    PerformerAttention,
    SinusoidPositions,
    SoftSplit,
    T2TBlock,
    TokenPooling,
)
from keras_t2t.rewrite.rebuilding import functional, is_quantized, rebuilt

# In the names of the Performer's linear layers whose inputs or outputs have no range to speak of:
# they stand in an exponent, or are weighted by exponentials.
UNBOUNDED = "unbounded"


def arrange(model):
    """Returns a model that computes the same, for inference only.

    - The last encoder block computes queries, attention and MLP of the class token alone, where
      nothing else of it is read.
    - The scale and shift of a LayerNormalization, and the scale of queries, are multiplied into the
      weights of the linear layer behind them.
    - Soft splits copy little, in an order of pixels that the weights behind them follow.
    - The Performer's projection is that of the means of values that its tokens share.
    - The class token is part of the table of positions: one sum puts both in.
    - No shape is computed at run time, whatever the batch.

    Layers that it does not know, and those that are quantised, stay as they are and are shared.

    Args:
        model: A functional or sequential `keras.Model` on the TensorFlow backend.

    Returns:
        A functional `keras.Model`.
    """
    arranged = {}
    for part in _models(model):
        arranged |= _fused(part)

    def replace(layer):
        if is_quantized(layer):
            return layer
        if layer in arranged:
            return arranged[layer]()
        if type(layer) is EncoderBlock and layer.flavor == "plain" and _sizes_known(layer):
            return ArrangedEncoderBlock(layer)
        if type(layer) is T2TBlock and _sizes_known(layer):
            return ArrangedT2TBlock(layer)
        if type(layer) is keras.layers.LayerNormalization and layer.axis in (-1, [-1]):
            return layer if layer.gamma is None or layer.beta is None else ArrangedNorm(layer)
        return layer

    return rebuilt(model, replace)


class Arranged(keras.layers.Layer):
    """A layer made from a trained one, in float32."""

    def __init__(self, source):
        super().__init__(name=source.name, dtype="float32", trainable=False)

    def constant(self, array):
        """A weight with these values."""
        array = np.asarray(array, "float32")
        return self.add_weight(array.shape, initializer=lambda *_, **__: array, trainable=False)

    def linear(self, kernel, bias=None):
        """A function that multiplies by `kernel` and adds `bias`."""
        kernel = self.constant(kernel)
        bias = None if bias is None else self.constant(bias)

        def apply(x):
            # As a matrix of all tokens: every runtime has a kernel for that.
            y = tf.matmul(tf.reshape(x, (-1, x.shape[-1])), kernel)
            y = y if bias is None else tf.nn.bias_add(y, bias)
            return tf.reshape(y, (-1, *x.shape[1:-1], y.shape[-1]))

        return apply


class ArrangedNorm(Arranged):
    """LayerNormalization over the channels."""

    def __init__(self, norm):
        super().__init__(norm)
        self.epsilon = norm.epsilon
        self.gamma, self.beta = self.constant(norm.gamma), self.constant(norm.beta)

    def call(self, x):
        return standardize(x, self.epsilon) * self.gamma + self.beta


class ArrangedClassToken(Arranged):
    """Room for the class token, before the others."""

    def call(self, x):
        return tf.pad(x, ((0, 0), (1, 0), (0, 0)))


class ArrangedPositions(Arranged):
    """The positions and, in the room that was made for it, the class token."""

    def __init__(self, positions, class_token):
        super().__init__(positions)
        table = np.array(positions.table, "float32")
        table[:, :1] += np.asarray(class_token.token)
        self.table = self.constant(table)

    def call(self, x):
        return x + self.table


class ArrangedSoftSplit(Arranged):
    """A soft split whose patches reach over two cells of `stride` pixels each way.

    Few and long copies: a patch is a cell, part of the next one, and parts of the two below. Its
    pixels come in that order, which `order` tells to the layer behind.
    """

    def __init__(self, split):
        super().__init__(split)
        self.split = split
        self.rest = [k - s for k, s in zip(split.kernel_size, split.strides, strict=True)]

    @staticmethod
    def fits(split):
        """Whether the split is of this kind."""
        sizes = zip(split.kernel_size, split.strides, strict=True)
        return all(stride < kernel <= 2 * stride for kernel, stride in sizes)

    @staticmethod
    def order(split, channels):
        """Where the values of a patch stood before."""
        height, width = split.strides
        index = np.arange(math.prod(split.kernel_size) * channels)
        index = index.reshape(*split.kernel_size, channels)
        rows = (index[:height], index[height:])
        return np.concatenate(
            [part.ravel() for row in rows for part in (row[:, :width], row[:, width:])]
        )

    def call(self, x):
        _, rows, columns, _ = self.split.compute_output_shape(x.shape)
        (height, width), channels = self.split.strides, x.shape[-1]
        sizes = zip(
            (rows + 1, columns + 1),
            self.split.strides,
            self.split.padding,
            x.shape[1:3],
            strict=True,
        )
        missing = [cells * stride - pad - size for cells, stride, pad, size in sizes]
        for axis, size in enumerate(missing, start=1):
            x = first(x, x.shape[axis] + min(size, 0), axis)
        # Whole rows: XNNPACK pads pixels of few channels ten times slower.
        x = tf.reshape(x, (-1, x.shape[1], x.shape[2] * channels))
        before, after = self.split.padding, [max(size, 0) for size in missing]
        row = (before[1] * channels, after[1] * channels)
        x = tf.pad(x, ((0, 0), (before[0], after[0]), row))
        x = tf.reshape(x, (-1, rows + 1, height, columns + 1, width * channels))
        x = tf.transpose(x, (0, 1, 3, 2, 4))
        right = x[:, :, 1:, :, : self.rest[1] * channels]
        right = tf.reshape(right, (-1, rows + 1, columns, height * right.shape[-1]))
        x = tf.reshape(x, (-1, rows + 1, columns + 1, height * width * channels))
        below = self.rest[0] * width * channels
        below_right = self.rest[0] * self.rest[1] * channels
        return tf.concat(
            (
                x[:, :-1, :-1],
                right[:, :-1],
                x[:, 1:, :-1, :below],
                right[:, 1:, :, :below_right],
            ),
            axis=-1,
        )


class ArrangedLinear(Arranged):
    """A Dense layer whose inputs come in another order."""

    def __init__(self, dense, order):
        super().__init__(dense)
        kernel, bias = weights_of(dense)
        self.apply, self.activation = self.linear(kernel[order], bias), dense.activation

    def call(self, x):
        return self.activation(self.apply(x))


class ArrangedMLP:
    """norm -> linear -> GELU -> linear of a block."""

    def __init__(self, layer, norm, mlp):
        self.epsilon = norm.epsilon
        self.fc1 = layer.linear(*behind(norm, mlp.fc1))
        self.fc2 = layer.linear(*weights_of(mlp.fc2))

    def __call__(self, x):
        x = self.fc1(standardize(x, self.epsilon))
        return self.fc2(gelu(x))


class ArrangedT2TBlock(Arranged):
    """A T2T block, whose inputs may come in another order."""

    def __init__(self, block, order=slice(None)):
        super().__init__(block)
        self.dim, self.epsilon = block.dim, block.norm1.epsilon
        attention = block.attention
        if isinstance(attention, PerformerAttention):
            kernel, bias = behind(block.norm1, attention.kqv)
            self.kqv = self.linear(kernel[order], bias)
            features = np.asarray(attention.features)
            self.features = self.linear(features.T)
            self.num_features = features.shape[0]
            kernel, bias = weights_of(attention.projection)
            self.projection, self.bias = self.linear(kernel), self.constant(bias)
            self.mix = self.performer
        else:
            kernel, bias = behind(block.norm1, attention.qkv)
            kernel, bias = scaled_queries(kernel, bias, attention)
            self.qkv = self.linear(kernel[order], bias)
            self.projection = self.linear(*weights_of(attention.projection))
            self.mix = self.softmax
        self.mlp = ArrangedMLP(self, block.norm2, block.mlp)

    def call(self, inputs):
        grid = inputs.shape[1:-1]
        x = tf.reshape(inputs, (-1, math.prod(grid), inputs.shape[-1]))
        x = self.mix(standardize(x, self.epsilon))
        x = x + self.mlp(x)
        return tf.reshape(x, (-1, *grid, self.dim))

    def performer(self, x):
        key, query, value = tf.split(self.kqv(x), 3, axis=-1)
        with tf.name_scope(UNBOUNDED):
            log_key, log_query = self.features(key), self.features(query)
        log_key = log_key - 0.5 * tf.reduce_sum(key * key, -1, keepdims=True)
        key_peak = tf.reduce_max(log_key, 1, keepdims=True)
        key_features = tf.exp(log_key - key_peak)
        # The query's -|q|^2 / 2 is the same for all features: it cancels but for the epsilon.
        log_query = log_query + key_peak
        query_peak = tf.reduce_max(log_query, -1, keepdims=True)
        query_features = tf.exp(log_query - query_peak)
        size = 0.5 * tf.reduce_sum(query * query, -1, keepdims=True)
        # Means over the tokens: their sums could overflow in runtimes that compute in float16.
        tokens = x.shape[1]
        epsilon = np.log(1e-8 * self.num_features / tokens) + size - query_peak
        epsilon = tf.exp(tf.minimum(epsilon, 80.0))
        key_mean = tf.reduce_mean(key_features, 1, keepdims=True)
        total = tf.reduce_sum(query_features * key_mean, -1, keepdims=True)
        weighted = tf.matmul(tf.transpose(key_features, (0, 2, 1)), value) * (1 / tokens)
        # The projection of the few weighted means is that of all tokens, but for its bias.
        with tf.name_scope(UNBOUNDED):
            weighted = self.projection(weighted)
        return value + self.bias + tf.matmul(query_features, weighted) / (total + epsilon)

    def softmax(self, x):
        query, key, value = tf.split(self.qkv(x), 3, axis=-1)
        attention = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
        return value + self.projection(tf.matmul(attention, value))


class ArrangedEncoderBlock(Arranged):
    """A plain encoder block."""

    def __init__(self, block):
        super().__init__(block)
        self.num_heads, self.epsilon = block.num_heads, block.norm1.epsilon
        kernel, bias = behind(block.norm1, block.attention.qkv)
        self.build_attention(*scaled_queries(kernel, bias, block.attention))
        self.projection = self.linear(*weights_of(block.attention.projection))
        self.mlp = ArrangedMLP(self, block.norm2, block.mlp)

    def build_attention(self, kernel, bias):
        self.qkv = self.linear(kernel, bias)

    def attend(self, x):
        """What the attention reads out of the tokens, before the projection."""
        query, key, value = map(self.heads, tf.split(self.qkv(x), 3, axis=-1))
        attention = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
        y = tf.transpose(tf.matmul(attention, value), (0, 2, 1, 3))
        return tf.reshape(y, (-1, *x.shape[1:]))

    def call(self, x):
        y = self.attend(standardize(x, self.epsilon))
        x = first(x, y.shape[1], 1) + self.projection(y)
        return x + self.mlp(x)

    def heads(self, x):
        shape = (-1, x.shape[1], self.num_heads, x.shape[2] // self.num_heads)
        return tf.transpose(tf.reshape(x, shape), (0, 2, 1, 3))


class ClassTokenBlock(ArrangedEncoderBlock):
    """The last encoder block, of which the class token alone is read.

    With one query, a head's keys and values need not be computed: what the query asks of the keys
    it can ask of the tokens, `q . (W n) = (q W) . n`, and the mean of the values is the value of
    the tokens' mean. The keys' bias is the same for all tokens, so that the softmax takes it out.
    """

    def build_attention(self, kernel, bias):
        query, key, value = np.split(kernel, 3, axis=1)
        query_bias, _, value_bias = np.split(bias, 3)
        heads = self.num_heads
        self.query = self.linear(query, query_bias)
        self.keys = [self.linear(part.T) for part in np.split(key, heads, axis=1)]
        self.values = [
            self.linear(part, part_bias)
            for part, part_bias in zip(
                np.split(value, heads, axis=1), np.split(value_bias, heads), strict=True
            )
        ]

    def attend(self, x):
        query, size = self.query(x[:, :1]), x.shape[-1] // self.num_heads
        # Slices: XNNPACK splits into few parts at a time.
        asked = [ask(query[..., i * size : (i + 1) * size]) for i, ask in enumerate(self.keys)]
        attention = tf.nn.softmax(tf.matmul(joined(asked, axis=1), x, transpose_b=True))
        means = tf.matmul(attention, x)
        return joined([value(means[:, i : i + 1]) for i, value in enumerate(self.values)], axis=-1)


def first(x, size, axis):
    """The first `size` along an axis. All of them need no slice, which converters would keep."""
    if x.shape[axis] == size:
        return x
    return x[(slice(None),) * axis + (slice(size),)]


def joined(parts, axis, most=4):
    """The parts, one behind the other: XNNPACK joins few at a time."""
    while len(parts) > 1:
        groups = [parts[start : start + most] for start in range(0, len(parts), most)]
        parts = [tf.concat(group, axis) if len(group) > 1 else group[0] for group in groups]
    return parts[0]


def standardize(x, epsilon):
    """LayerNormalization without scale and shift, in few passes over `x`."""
    x = x - tf.reduce_mean(x, -1, keepdims=True)
    return x * tf.math.rsqrt(tf.reduce_mean(x * x, -1, keepdims=True) + epsilon)


def gelu(x):
    return 0.5 * x * (1.0 + tf.math.erf(x * np.float32(2**-0.5)))


def weights_of(dense):
    """Kernel and bias of a Dense layer, in float64."""
    kernel = np.asarray(dense.kernel, "float64")
    bias = np.asarray(dense.bias, "float64") if dense.use_bias else np.zeros(kernel.shape[1])
    return kernel, bias


def behind(norm, dense):
    """Kernel and bias that take `dense` from standardised values to where `norm` took it."""
    kernel, bias = weights_of(dense)
    gamma, beta = (np.asarray(part, "float64") for part in (norm.gamma, norm.beta))
    return gamma[:, None] * kernel, beta @ kernel + bias


def scaled_queries(kernel, bias, attention):
    """The scale of the attention multiplied into the queries' part of kernel and bias."""
    channels, dim = kernel.shape[0], kernel.shape[1] // 3
    scale = attention.qk_scale or (channels // attention.num_heads) ** -0.5
    factor = np.concatenate((np.full(dim, scale), np.ones(2 * dim)))
    return kernel * factor, bias * factor


def _fused(model):
    """What follows from how layers are connected: {layer: function that makes its replacement}."""
    model = functional(model)
    readers = {}
    for operation in model.operations:
        if not _stands_once(operation):
            return {}  # what it reads cannot be told
        for tensor in keras.tree.flatten(operation.input):
            readers.setdefault(id(tensor), []).append(operation)
    for tensor in model.outputs:
        readers.setdefault(id(tensor), []).append(None)

    def reader(layer):
        """The only layer that reads another's output, if there is only one."""
        found = readers.get(id(layer.output), [])
        return found[0] if len(found) == 1 else None

    arranged = {}
    for layer in model.layers:
        after = reader(layer)
        if type(layer) is ClassToken and type(after) is SinusoidPositions:
            arranged[layer] = functools.partial(ArrangedClassToken, layer)
            arranged[after] = functools.partial(ArrangedPositions, after, layer)
        if type(layer) is SoftSplit and ArrangedSoftSplit.fits(layer):
            order = ArrangedSoftSplit.order(layer, layer.input.shape[-1])
            kinds = {T2TBlock: ArrangedT2TBlock, keras.layers.Dense: ArrangedLinear}
            if type(after) in kinds and not is_quantized(after):
                arranged[layer] = functools.partial(ArrangedSoftSplit, layer)
                arranged[after] = functools.partial(kinds[type(after)], after, order)
        if type(layer) is EncoderBlock and layer.flavor == "plain" and _sizes_known(layer):
            pooling = reader(after) if type(after) is keras.layers.LayerNormalization else None
            if isinstance(pooling, TokenPooling) and pooling.mode == "token":
                arranged[layer] = functools.partial(ClassTokenBlock, layer)
    return arranged


def _stands_once(operation):
    """Whether an operation stands at one place of its graph, with one input and one output."""
    try:
        return operation.input is not None and operation.output is not None
    except (AttributeError, ValueError):  # Keras, of a layer that is called twice
        return False


def _sizes_known(layer):
    """Whether all sizes but the batch of a layer's input are known."""
    return _stands_once(layer) and None not in layer.input.shape[1:]


def _models(model):
    """A model and the models within it."""
    yield model
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _models(layer)
