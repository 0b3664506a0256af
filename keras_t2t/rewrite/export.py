"""The rewrite for exported files: weights folded, one piece for edge runtimes, TensorFlow alone."""

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
)
from keras_t2t.rewrite.formulas import class_token_attention, linear, performer
from keras_t2t.rewrite.graph import (
    functional,
    graphs,
    is_quantized,
    last_layer,
    output_of,
    rebuilt,
    stands_once,
)


def fold(model):
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
    folded = {}
    for graph in graphs(model):
        for layer in graph.layers:
            folded = _connected(graph, layer) | folded

    def replace(layer):
        if is_quantized(layer):
            return layer
        if layer in folded:
            return folded[layer]()
        if _is_plain_block(layer):
            return FoldedEncoderBlock(layer)
        if type(layer) is T2TBlock and _sizes_known(layer):
            return FoldedT2TBlock(layer)
        if type(layer) is keras.layers.LayerNormalization and layer.axis in (-1, [-1]):
            return layer if layer.gamma is None or layer.beta is None else FoldedNorm(layer)
        return layer

    return rebuilt(model, replace)


def _connected(graph, layer):
    """What follows from how a layer is connected: {layer: function that makes its replacement}."""
    after = graph.after(layer)
    if type(layer) is ClassToken and type(after) is SinusoidPositions:
        return {
            layer: functools.partial(FoldedClassToken, layer),
            after: functools.partial(FoldedPositions, after, layer),
        }
    if type(layer) is SoftSplit and FoldedSoftSplit.fits(layer) and not is_quantized(after):
        kind = {T2TBlock: FoldedT2TBlock, keras.layers.Dense: FoldedLinear}.get(type(after))
        order = FoldedSoftSplit.order(layer, layer.input.shape[-1])
        if kind:
            return {
                layer: functools.partial(FoldedSoftSplit, layer),
                after: functools.partial(kind, after, order),
            }
    if _is_plain_block(layer) and graph.class_token_only(layer):
        return {layer: functools.partial(FoldedClassTokenBlock, layer)}
    return {}


class Folded(keras.layers.Layer):
    """A layer made from a trained one, in float32."""

    def __init__(self, source):
        super().__init__(name=source.name, dtype="float32", trainable=False)

    def constant(self, array):
        """A weight with these values."""
        array = np.asarray(array, "float32")
        return self.add_weight(array.shape, initializer=lambda *_, **__: array, trainable=False)

    def constants(self, *arrays):
        """Weights with these values."""
        return tuple(map(self.constant, arrays))


class FoldedNorm(Folded):
    """LayerNormalization over the channels."""

    def __init__(self, norm):
        super().__init__(norm)
        self.epsilon = norm.epsilon
        self.gamma, self.beta = self.constant(norm.gamma), self.constant(norm.beta)

    def call(self, x):
        return standardize(x, self.epsilon) * self.gamma + self.beta


class FoldedClassToken(Folded):
    """Room for the class token, before the others."""

    def call(self, x):
        return tf.pad(x, ((0, 0), (1, 0), (0, 0)))


class FoldedPositions(Folded):
    """The positions and, in the room that was made for it, the class token."""

    def __init__(self, positions, class_token):
        super().__init__(positions)
        table = np.array(positions.table, "float32")
        table[:, :1] += np.asarray(class_token.token)
        self.table = self.constant(table)

    def call(self, x):
        return x + self.table


class FoldedSoftSplit(Folded):
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


class FoldedLinear(Folded):
    """A Dense layer whose inputs come in another order."""

    def __init__(self, dense, order):
        super().__init__(dense)
        kernel, bias = weights_of(dense)
        self.dense, self.activation = self.constants(kernel[order], bias), dense.activation

    def call(self, x):
        return self.activation(linear(x, *self.dense))


class FoldedBlock(Folded):
    """What T2T blocks and encoder blocks share: two norms, of which weights remain, and an MLP."""

    def __init__(self, block):
        super().__init__(block)
        self.epsilon = block.norm1.epsilon
        self.projection = self.constants(*weights_of(block.attention.projection))
        self.fc1 = self.constants(*behind(block.norm2, block.mlp.fc1))
        self.fc2 = self.constants(*weights_of(block.mlp.fc2))

    def mlp(self, x):
        return linear(gelu(linear(standardize(x, self.epsilon), *self.fc1)), *self.fc2)


class FoldedT2TBlock(FoldedBlock):
    """A T2T block, whose inputs may come in another order."""

    def __init__(self, block, order=slice(None)):
        super().__init__(block)
        self.dim, attention, self.features = block.dim, block.attention, None
        if isinstance(attention, PerformerAttention):
            kernel, bias = behind(block.norm1, attention.kqv)
            self.features = self.constant(attention.features)
        else:
            kernel, bias = scaled_queries(*behind(block.norm1, attention.qkv), attention)
        self.first = self.constants(kernel[order], bias)

    def call(self, inputs):
        grid = inputs.shape[1:-1]
        x = tf.reshape(inputs, (-1, math.prod(grid), inputs.shape[-1]))
        parts = linear(standardize(x, self.epsilon), *self.first)
        if self.features is None:
            query, key, value = tf.split(parts, 3, axis=-1)
            attention = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
            x = value + linear(tf.matmul(attention, value), *self.projection)
        else:
            key, query, value = tf.split(parts, 3, axis=-1)
            x = value + performer(key, query, value, self.features, *self.projection)
        x = x + self.mlp(x)
        return tf.reshape(x, (-1, *grid, self.dim))


class FoldedEncoderBlock(FoldedBlock):
    """A plain encoder block."""

    def __init__(self, block):
        super().__init__(block)
        self.num_heads = block.num_heads
        kernel, bias = behind(block.norm1, block.attention.qkv)
        self.fold_attention(*scaled_queries(kernel, bias, block.attention))

    def fold_attention(self, kernel, bias):
        self.qkv = self.constants(kernel, bias)

    def attend(self, x):
        """What the attention reads out of the tokens, before the projection."""
        query, key, value = map(self.heads, tf.split(linear(x, *self.qkv), 3, axis=-1))
        attention = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
        y = tf.transpose(tf.matmul(attention, value), (0, 2, 1, 3))
        return tf.reshape(y, (-1, *x.shape[1:]))

    def call(self, x):
        y = self.attend(standardize(x, self.epsilon))
        x = first(x, y.shape[1], 1) + linear(y, *self.projection)
        return x + self.mlp(x)

    def heads(self, x):
        shape = (-1, x.shape[1], self.num_heads, x.shape[2] // self.num_heads)
        return tf.transpose(tf.reshape(x, shape), (0, 2, 1, 3))


class FoldedClassTokenBlock(FoldedEncoderBlock):
    """The last encoder block, of which the class token alone is read."""

    def fold_attention(self, kernel, bias):
        kernels, biases = np.split(kernel, 3, axis=1), np.split(bias, 3)
        self.query = self.constants(kernels[0], biases[0])
        self.key, self.value = self.constant(kernels[1]), self.constants(kernels[2], biases[2])

    def attend(self, x):
        return class_token_attention(
            x, self.query, self.key, self.value, self.num_heads, 1.0, "float32"
        )


def first(x, size, axis):
    """The first `size` along an axis. All of them need no slice, which converters would keep."""
    if x.shape[axis] == size:
        return x
    return x[(slice(None),) * axis + (slice(size),)]


def standardize(x, epsilon):
    """LayerNormalization without scale and shift, in few passes over `x`."""
    x = x - tf.reduce_mean(x, -1, keepdims=True)
    return x * tf.math.rsqrt(tf.reduce_mean(x * x, -1, keepdims=True) + epsilon)


def gelu(x):
    """The exact GELU, of operations that every runtime has."""
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


def _is_plain_block(layer):
    return type(layer) is EncoderBlock and layer.flavor == "plain" and _sizes_known(layer)


def _sizes_known(layer):
    """Whether all sizes but the batch of a layer's input are known."""
    return stands_once(layer) and None not in layer.input.shape[1:]


def for_inference(model):
    """A copy of a model as exported files are to compute it: float32, no softmax at its end.

    Files for the edge choose their own precision, and a softmax can be put behind logits but not
    taken away. Layers that are quantised stay so.

    Args:
        model: A functional or sequential `keras.Model`.

    Returns:
        (model, output): the copy, and what comes out of it: `"logits"` where the last layer was
        linear or a softmax, else `"outputs"`.

    Raises:
        ValueError: As `rebuilt`.
    """
    model = functional(model)
    head = last_layer(model)
    kind = output_of(model)
    softmax_alone = kind == "probabilities" and isinstance(
        head, (keras.layers.Softmax, keras.layers.Activation)
    )
    copies = []

    def copy(layer):
        if layer is head and softmax_alone:
            return PassedOn(name=head.name)
        config = layer.get_config()
        if not is_quantized(layer):
            config["dtype"] = "float32"
        if layer is head and kind == "probabilities":
            config["activation"] = None
        copies.append((layer, type(layer).from_config(config)))
        return copies[-1][1]

    network = rebuilt(model, copy)
    for layer, its_copy in copies:
        its_copy.set_weights(layer.get_weights())
    return network, "outputs" if kind == "outputs" else "logits"


class PassedOn(keras.layers.Layer):
    """Takes what a Softmax layer takes, and leaves it as it is."""

    def call(self, inputs, mask=None):
        return inputs
