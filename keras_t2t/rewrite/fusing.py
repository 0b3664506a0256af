"""`keras_t2t.fuse`: a model that computes the same as another, faster, on the same variables."""

import functools
import math
from collections.abc import Collection

import keras
from keras import ops

from keras_t2t.layers import (
    DenseEncoderBlock,
    PerformerAttention,
    SelfAttention,
    SoftSplit,
    T2TBlock,
)
from keras_t2t.layers.composite import on_tokens
from keras_t2t.rewrite.formulas import (
    class_token_attention,
    dropout,
    performer,
    split_linear,
    split_norm_linear,
)
from keras_t2t.rewrite.graph import functional, graphs, rebuilt

FORMS = ("class_token", "soft_split", "performer")


class Functional(keras.Model):
    """A plain model that computes by a faster one. Keras writes it down as the plain model.

    To Keras it is a functional model with a call of its own: layers, variables, configuration and
    files are those of the plain graph, and a clone of it, which has other layers, is plain.
    """

    def call(self, inputs, training=None, mask=None):
        faster = getattr(self, "faster", super().call)
        return faster(inputs, training=training)


def fuse(model: keras.Model, forms: Collection[str] = FORMS) -> keras.Model:
    """Returns an equal, faster model on the layers and variables of another.

    - The last encoder block computes the class token only, where that is all that is read of it.
    - The soft splits after the first are computed with the linear layer behind them, as
      convolutions, so that overlapping patches never stand in memory.
    - The Performer's projection is applied to the sums that its tokens share, and its dropout draws
      quickly where TensorFlow compiles.

    The result is an ordinary model: compile it, fit it, look up its layers. What it learns, the
    plain model has learned too. Saving it writes the plain model's file: `keras.saving.load_model`
    gives the plain model back. Freezing layers, quantising them or enabling LoRA afterwards, in
    either model, takes effect in both when they are compiled anew; a layer that is quantised or has
    LoRA is computed as it is.

        model = keras_t2t.fuse(keras_t2t.T2TViT14())
        model.compile(...)

    Args:
        model: A functional or sequential `keras.Model`: any that `T2TViT` built, or one around it.
        forms: Names among `FORMS`, for measuring what each is worth. Defaults to all.

    Returns:
        A functional `keras.Model`, not compiled. Its results differ by rounding alone.

    Raises:
        ValueError: If the model is subclassed, so that its layers cannot be told apart.
    """
    plain = functional(model)
    replacements = {}
    for graph in graphs(plain):
        for layer in graph.layers:
            replacements = _fused(graph, layer, forms) | replacements
    faster = rebuilt(plain, lambda layer: replacements.get(layer) or Shared(layer))
    # The name by which files refer to a plain model's class, which Keras does not export.
    Functional.__module__ = type(plain).__module__
    fused = Functional(plain.input, plain.output, name=plain.name)
    # Past Keras, which would count its layers as the model's.
    object.__setattr__(fused, "faster", faster)
    return fused


def _fused(graph, layer, forms):
    """What stands for a layer and for the one behind it: {layer: replacement}."""
    if type(layer) is T2TBlock and layer.restructurization and "performer" in forms:
        return {layer: FusedT2TBlock(layer)}
    if "class_token" in forms and graph.class_token_only(layer):
        # Squeeze and excitation weighs the channels by all tokens.
        return {} if layer.flavor == "squeeze_excite" else {layer: FusedClassTokenBlock(layer)}
    # TensorFlow's convolution on CPUs is wrong where the strides of rows and columns differ.
    if type(layer) is SoftSplit and layer.strides[0] == layer.strides[1] and "soft_split" in forms:
        after = graph.after(layer)
        # Not of an image: its flat parts have next to no variance, which a norm divides by, and
        # with it the rounding errors, several times those of the graph.
        if type(after) is T2TBlock and isinstance(graph.before(layer), T2TBlock):
            return {layer: keras.layers.Identity(), after: FusedT2TBlock(after, layer)}
        if type(after) is keras.layers.Dense:
            return {layer: keras.layers.Identity(), after: FusedProjection(after, layer)}
    return {}


def is_plain(dense):
    """Whether a linear layer is no more than its kernel and bias, so that these may be read."""
    return (
        type(dense) is keras.layers.Dense
        and dense.quantization_mode is None
        and not dense.lora_enabled
    )


class Shared(keras.layers.Layer):
    """Another model's layer, which keeps its place in that model's graph alone."""

    def __init__(self, layer):
        super().__init__(name=layer.name, dtype=layer.dtype, autocast=False)
        # Past Keras, which would make its variables this layer's.
        object.__setattr__(self, "layer", layer)

    def call(self, *args, **kwargs):
        return self.layer(*args, **kwargs)

    def compute_output_spec(self, *args, **kwargs):
        return self.layer.compute_output_spec(*args, **kwargs)


class FusedWithSplit(Shared):
    """A layer with the soft split before it, if there is one."""

    def __init__(self, layer, soft_split=None):
        super().__init__(layer)
        object.__setattr__(self, "soft_split", soft_split)

    def split(self, inputs):
        """What the layer itself reads."""
        return self.soft_split(inputs) if self.soft_split else inputs

    def compute_output_spec(self, inputs, **kwargs):
        if self.soft_split:
            inputs = self.soft_split.compute_output_spec(inputs)
        return super().compute_output_spec(inputs, **kwargs)


class FusedProjection(FusedWithSplit):
    """A soft split and the linear layer behind it."""

    def call(self, inputs):
        if not is_plain(self.layer):
            return self.layer(self.split(inputs))
        return self.layer.activation(split_linear(inputs, self.soft_split, self.layer))


class FusedT2TBlock(FusedWithSplit):
    """A T2T block, with the soft split before it if there is one."""

    def call(self, inputs, training=False):
        block, attention, mlp = self.layer, self.layer.attention, self.layer.mlp
        is_performer = isinstance(attention, PerformerAttention)
        first = attention.kqv if is_performer else attention.qkv
        if not (is_plain(first) and is_plain(attention.projection)):
            return block(self.split(inputs), training=training)
        if self.soft_split:
            x = split_norm_linear(inputs, self.soft_split, block.norm1, first)
        else:
            x = ops.reshape(inputs, (-1, math.prod(block.grid), inputs.shape[-1]))
            x = on_tokens(first, block.norm1(x))
        parts = ops.split(x, 3, axis=-1)
        attend = functools.partial(fused_performer, attention) if is_performer else attention.attend
        x = attend(*parts, training=training)
        y = on_tokens(mlp.fc2, mlp.hidden(block.norm2(x)))
        return block.restructurization(x + dropout(mlp.output_dropout, y, training))


def fused_performer(attention, key, query, value, training=False):
    """`attention.attend(key, query, value)` of a `PerformerAttention`."""
    wide = [ops.cast(x, attention.stable_dtype) for x in (key, query, value)]
    projection = attention.projection
    weights = attention.features, projection.kernel, projection.bias
    weights = [ops.cast(x, attention.stable_dtype) for x in weights]
    y = ops.cast(performer(*wide, *weights), value.dtype)
    return value + dropout(attention.output_dropout, y, training)


class FusedClassTokenBlock(Shared):
    """The last encoder block, for its class token alone: `(batch, 1, channels)`."""

    def call(self, inputs, training=False):
        block, attention = self.layer, self.layer.attention
        x, token = block.norm1(inputs), inputs[:, :1]
        drops = training and attention.attention_dropout_rate
        if type(attention) is SelfAttention and is_plain(attention.qkv) and not drops:
            x = on_tokens(attention.projection, self.attend(x))
            x = attention.output_dropout(x, training=training)
        else:
            query, key, value = attention.query_key_value(x)
            x = attention.attend(query[:, :1], key, value, training)
        x = token + block.drop_path1(x, training=training)
        x = x + block.drop_path2(block.mlp(block.norm2(x), training=training), training=training)
        if isinstance(block, DenseEncoderBlock):
            x = ops.concatenate((token, on_tokens(block.growth, x)), axis=-1)
        return x

    def attend(self, x):
        attention = self.layer.attention
        kernels = ops.split(ops.cast(attention.qkv.kernel, x.dtype), 3, axis=1)
        biases = [None] * 3
        if attention.qkv_bias:
            biases = ops.split(ops.cast(attention.qkv.bias, x.dtype), 3)
        query, _, value = zip(kernels, biases, strict=True)
        return class_token_attention(
            x,
            *(query, kernels[1], value),
            attention.num_heads,
            attention.scale,
            attention.stable_dtype,
        )

    def compute_output_spec(self, inputs, **kwargs):
        batch, _, channels = inputs.shape
        token = keras.KerasTensor((batch, 1, channels), inputs.dtype)
        return super().compute_output_spec(token, **kwargs)
