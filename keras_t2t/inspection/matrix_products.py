"""The matrix products that a network consists of, and with them its multiply-accumulates.

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

It is a count of the mathematics. A form that computes the same in another way, fused or for the
class token only, does not change it.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import keras

from keras_t2t import layers


class Product(NamedTuple):
    """`number` products of `(rows, inner)` by `(inner, columns)`, for one image.

    Attributes:
        kind: `"linear"` (by a weight), `"convolution"` (as if its patches were unfolded),
            `"features"` (the Performer's, by the fixed random features) or `"attention"` (of two
            tensors).
    """

    kind: str
    number: int
    rows: int
    inner: int
    columns: int

    @property
    def macs(self) -> int:
        """The multiply-accumulates of all of them."""
        return self.number * self.rows * self.inner * self.columns


@functools.singledispatch
def matrix_products(layer: keras.layers.Layer, shape: Sequence) -> list[Product]:
    """The matrix products of a layer, in the order in which it computes them.

    Args:
        layer: A built Keras layer.
        shape: The shape of its input, with the batch. May be `None` for layers without products.

    Raises:
        ValueError: If there is no rule for the layer, or a size is unknown.
    """
    if any(len(weight.shape) > 1 for weight in layer.weights):
        raise ValueError(
            f"model_or_name: expected layers whose multiply-accumulates have a rule, but "
            f"{layer.name!r} is a {type(layer).__name__}"
        )
    return []


@matrix_products.register(layers.ClassToken)
@matrix_products.register(layers.SinusoidPositions)
def _(layer, shape):
    return []


@matrix_products.register(keras.layers.Dense)
def _(layer, shape):
    return [Product("linear", 1, _size(layer, shape[:-1]), shape[-1], layer.units)]


@matrix_products.register(keras.layers.Conv2D)
def _(layer, shape):
    outputs = _size(layer, layer.compute_output_shape(shape)) // layer.filters
    channels = shape[-1 if layer.data_format == "channels_last" else 1] // layer.groups
    inner = math.prod(layer.kernel_size) * channels
    return [Product("convolution", layer.groups, outputs, inner, layer.filters // layer.groups)]


@matrix_products.register(layers.MLP)
def _(layer, shape):
    hidden = (*shape[:-1], layer.hidden_dim)
    return matrix_products(layer.fc1, shape) + matrix_products(layer.fc2, hidden)


@matrix_products.register(layers.GhostMLP)
def _(layer, shape):
    first, second = matrix_products.dispatch(layers.MLP)(layer, shape)
    return [first, _cheap(first, layer.hidden_dim - layer.fc1.units), second]


@matrix_products.register(layers.SqueezeExcite)
def _(layer, shape):
    # One vector for each image, the mean of its tokens.
    mean, hidden = (shape[0], shape[-1]), (shape[0], layer.squeeze.units)
    return matrix_products(layer.squeeze, mean) + matrix_products(layer.excite, hidden)


@matrix_products.register(layers.SelfAttention)
def _(layer, shape):
    output = layer.compute_output_shape(shape)
    tokens, size = output[1], output[2] // layer.num_heads
    return [
        *_query_key_value(layer, shape),
        Product("attention", layer.num_heads, tokens, size, tokens),
        Product("attention", layer.num_heads, tokens, tokens, size),
        *matrix_products(layer.projection, output),
        *(matrix_products(layer.excite, output) if layer.squeeze_excite else ()),
    ]


def _query_key_value(layer, shape):
    if not isinstance(layer, layers.GhostAttention):
        return matrix_products(layer.qkv, shape)
    parts = (layer.query, layer.key, layer.value)
    linear = [product for part in parts for product in matrix_products(part, shape)]
    return linear + [_cheap(product, product.columns) for product in linear]


@matrix_products.register(layers.PerformerAttention)
def _(layer, shape):
    output = layer.compute_output_shape(shape)
    _, tokens, dim = output
    return [
        *matrix_products(layer.kqv, shape),
        *2 * [Product("features", 1, tokens, dim, layer.num_features)],
        Product("attention", 1, layer.num_features, tokens, dim),
        Product("attention", 1, tokens, layer.num_features, dim),
        *matrix_products(layer.projection, output),
    ]


@matrix_products.register(layers.T2TBlock)
def _(layer, shape):
    tokens = (shape[0], _size(layer, shape[:-1]), shape[-1])
    output = (*tokens[:-1], layer.dim)
    return matrix_products(layer.attention, tokens) + matrix_products(layer.mlp, output)


@matrix_products.register(layers.EncoderBlock)
def _(layer, shape):
    return matrix_products(layer.attention, shape) + matrix_products(layer.mlp, shape)


@matrix_products.register(layers.DenseEncoderBlock)
def _(layer, shape):
    block = matrix_products.dispatch(layers.EncoderBlock)(layer, shape)
    return block + matrix_products(layer.growth, shape)


@matrix_products.register(layers.Encoder)
def _(layer, shape):
    return [product for block in layer.blocks for product in matrix_products(block, shape)]


def _cheap(computed, channels):
    """The Ghost flavour's depthwise 1x1 convolution beside a linear layer."""
    return Product("convolution", channels, computed.rows, 1, 1)


def _size(layer, shape):
    """The product of a shape without its batch."""
    if None in shape[1:]:
        raise ValueError(
            f"model_or_name: expected a model of known sizes, but {layer.name!r} has the shape "
            f"{tuple(shape)}"
        )
    return math.prod(shape[1:])
