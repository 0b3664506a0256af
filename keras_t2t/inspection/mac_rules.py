"""The rules by which multiply-accumulates are counted.

What counts as a multiply-accumulate (MAC), for one image:

- `dense_macs`: linear layers and convolutions, the sum over outputs of the inputs that each is a
  weighted sum of. Squeeze-and-excitation's linear layers and the Ghost flavour's cheap operations
  (depthwise 1x1 convolutions) are among them.
- `macs`: those, and the attention's matrix products. Softmax attention of `n` tokens and `d`
  channels has two, queries by keys and attention by values: `2 n^2 d`. A Performer with `m` random
  features has four, the features of queries and of keys, keys by values, and queries by that:
  `4 n d m`.
- Nothing else counts: no bias, norm, activation, softmax, exponential or division, no scaling, no
  sum of residuals or positions, no soft split.

It is a count of the mathematics. An arrangement that computes the same in another way, fused or on
the class token only, does not change it.
"""

import functools
import math

import keras

from keras_t2t.layers import (
    MLP,
    ClassToken,
    DenseEncoderBlock,
    Encoder,
    EncoderBlock,
    GhostAttention,
    GhostMLP,
    PerformerAttention,
    SelfAttention,
    SinusoidPositions,
    SqueezeExcite,
    T2TBlock,
)


@functools.singledispatch
def layer_macs(layer, shape):
    """Multiply-accumulates of a layer for one image.

    Args:
        layer: A built Keras layer.
        shape: Tuple, the shape of its input with the batch. May be `None` for layers that count
            nothing.

    Returns:
        Pair of ints: those of linear layers and convolutions, and those of the attention.

    Raises:
        ValueError: If there is no rule for the layer, or a size is open.
    """
    if any(len(weight.shape) > 1 for weight in layer.weights):
        raise ValueError(
            f"model_or_name: expected layers whose multiply-accumulates have a rule, but "
            f"{layer.name!r} is a {type(layer).__name__}"
        )
    return 0, 0


@layer_macs.register(ClassToken)
@layer_macs.register(SinusoidPositions)
def _(layer, shape):
    return 0, 0


@layer_macs.register
def _(layer: keras.layers.Dense, shape):
    return _known(layer, shape) * layer.units, 0


@layer_macs.register(keras.layers.Conv2D)
def _(layer, shape):
    channels = shape[-1 if layer.data_format == "channels_last" else 1] // layer.groups
    outputs = _known(layer, layer.compute_output_shape(shape))
    return outputs * math.prod(layer.kernel_size) * channels, 0


@layer_macs.register
def _(layer: MLP, shape):
    return _add(
        layer_macs(layer.fc1, shape), layer_macs(layer.fc2, (*shape[:-1], layer.hidden_dim))
    )


@layer_macs.register
def _(layer: GhostMLP, shape):
    cheap = _known(layer, shape[:-1]) * (layer.hidden_dim - layer.fc1.units)
    return _add(
        (cheap, 0),
        layer_macs(layer.fc1, shape),
        layer_macs(layer.fc2, (*shape[:-1], layer.hidden_dim)),
    )


@layer_macs.register
def _(layer: SqueezeExcite, shape):
    # One vector for each image, the mean of its tokens.
    mean = (shape[0], shape[-1])
    return _add(
        layer_macs(layer.squeeze, mean), layer_macs(layer.excite, (shape[0], layer.squeeze.units))
    )


@layer_macs.register
def _(layer: SelfAttention, shape):
    return _add(layer_macs(layer.qkv, shape), _attention_and_projection(layer, shape))


@layer_macs.register
def _(layer: GhostAttention, shape):
    parts = (layer.query, layer.key, layer.value)
    cheap = _known(layer, shape[:-1]) * sum(part.units for part in parts)
    return _add(
        (cheap, 0),
        *(layer_macs(part, shape) for part in parts),
        _attention_and_projection(layer, shape),
    )


def _attention_and_projection(layer, shape):
    output = layer.compute_output_shape(shape)
    pairs = [(0, 2 * _known(layer, output) * output[1]), layer_macs(layer.projection, output)]
    if layer.squeeze_excite:
        pairs.append(layer_macs(layer.excite, output))
    return _add(*pairs)


@layer_macs.register
def _(layer: PerformerAttention, shape):
    output = layer.compute_output_shape(shape)
    attention = 4 * _known(layer, output) * layer.num_features
    return _add((0, attention), layer_macs(layer.kqv, shape), layer_macs(layer.projection, output))


@layer_macs.register
def _(layer: T2TBlock, shape):
    tokens = (shape[0], _known(layer, shape[:-1]), shape[-1])
    output = (*tokens[:-1], layer.dim)
    return _add(layer_macs(layer.attention, tokens), layer_macs(layer.mlp, output))


@layer_macs.register
def _(layer: EncoderBlock, shape):
    return _add(layer_macs(layer.attention, shape), layer_macs(layer.mlp, shape))


@layer_macs.register
def _(layer: DenseEncoderBlock, shape):
    return _add(
        layer_macs(layer.attention, shape),
        layer_macs(layer.mlp, shape),
        layer_macs(layer.growth, shape),
    )


@layer_macs.register
def _(layer: Encoder, shape):
    return _add(*(layer_macs(block, shape) for block in layer.blocks))


def _add(*pairs):
    return tuple(map(sum, zip(*pairs, strict=True)))


def _known(layer, shape):
    """The product of a shape without its batch."""
    if None in shape[1:]:
        raise ValueError(
            f"model_or_name: expected a model of known sizes, but {layer.name!r} has the shape "
            f"{tuple(shape)}"
        )
    return math.prod(shape[1:])
