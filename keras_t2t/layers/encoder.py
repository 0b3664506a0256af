"""The deep-narrow encoder, its block, and the block of the Dense flavour."""

import keras
import numpy as np
from keras import ops

from keras_t2t.layers.attention import SelfAttention
from keras_t2t.layers.composite import CompositeLayer, on_tokens, split_seed
from keras_t2t.layers.ghost import GhostAttention, GhostMLP
from keras_t2t.layers.mlp import MLP
from keras_t2t.limits import MOST_LAYERS
from keras_t2t.validation import one_of, positive_int, positive_number, rate

FLAVORS = ("plain", "squeeze_excite", "ghost")


def drop_path_rates(drop_path_rate, depth):
    """The stochastic depth of each block, rising linearly from 0 to `drop_path_rate`."""
    return [float(value) for value in np.linspace(0.0, drop_path_rate, depth)]


def encoder_blocks(depth, drop_path_rate, seed, name, **arguments):
    """The blocks of an encoder, whose stochastic depth rises linearly to `drop_path_rate`.

    Args:
        depth: Int, number of blocks.
        drop_path_rate: Float in [0, 1), stochastic depth of the last block.
        seed: Int or `None`, from which each block gets a seed of its own.
        name: String, the blocks' names without their index.
        **arguments: Other arguments of `EncoderBlock`.
    """
    depth = positive_int(depth, "depth", MOST_LAYERS)
    rates = drop_path_rates(rate(drop_path_rate, "drop_path_rate"), depth)
    seeds = split_seed(seed, depth)
    return [
        EncoderBlock(drop_path_rate=rates[i], seed=seeds[i], name=f"{name}_{i}", **arguments)
        for i in range(depth)
    ]


@keras.saving.register_keras_serializable(package="keras_t2t")
class EncoderBlock(CompositeLayer):
    """Pre-norm transformer block: `x + attention(norm(x))`, then `x + MLP(norm(x))`.

    Args:
        num_heads: Int, number of attention heads; it must divide the channels.
        mlp_ratio: Float, hidden units of the MLP for each channel. Defaults to 3.
        qkv_bias: Bool, whether queries, keys and values have a bias. Defaults to `False`.
        qk_scale: Float that multiplies the products of queries and keys. `None`, the default, means
            `(channels // num_heads) ** -0.5`.
        dropout_rate: Float in [0, 1), dropout after attention and in the MLP. Defaults to 0.
        attention_dropout_rate: Float in [0, 1), dropout of the attention. Defaults to 0.
        drop_path_rate: Float in [0, 1), how often a residual branch is skipped for an example in
            training (stochastic depth). Defaults to 0.
        flavor: `"plain"`, `"squeeze_excite"` (channels weighed after the attention) or `"ghost"`
            (part of the channels computed, the others cheap copies). Defaults to `"plain"`.
        seed: Int or `None`, seed of initial weights, dropout and drop path.

    Input and output shape: `(batch, tokens, channels)`.

    Raises:
        ValueError: If an argument is out of range, or `num_heads` does not divide the channels.

    Source: `Block` in `models/transformer_block.py`, `models/t2t_vit_se.py` and
        `models/t2t_vit_ghost.py`; section 3.2 of the paper.
    """

    def __init__(
        self,
        num_heads: int,
        mlp_ratio: float = 3.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        flavor: str = "plain",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = positive_int(num_heads, "num_heads")
        self.mlp_ratio = positive_number(mlp_ratio, "mlp_ratio")
        self.qkv_bias = qkv_bias
        self.qk_scale = None if qk_scale is None else positive_number(qk_scale, "qk_scale")
        self.dropout_rate = rate(dropout_rate, "dropout_rate")
        self.attention_dropout_rate = rate(attention_dropout_rate, "attention_dropout_rate")
        self.drop_path_rate = rate(drop_path_rate, "drop_path_rate")
        self.flavor = one_of(flavor, "flavor", FLAVORS)

    def build(self, input_shape):
        seeds = split_seed(self.seed, 5)
        ghost = self.flavor == "ghost"
        self.norm1 = self.layer_norm(input_shape, "norm1")
        self.attention = (GhostAttention if ghost else SelfAttention)(
            self.num_heads,
            qkv_bias=self.qkv_bias,
            qk_scale=self.qk_scale,
            squeeze_excite=self.flavor == "squeeze_excite",
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.attention_dropout_rate,
            seed=seeds[0],
            dtype=self.dtype_policy,
            name="attention",
        )
        self.attention.build(input_shape)
        self.norm2 = self.layer_norm(input_shape, "norm2")
        self.mlp = (GhostMLP if ghost else MLP)(
            int(input_shape[-1] * self.mlp_ratio),
            dropout_rate=self.dropout_rate,
            hidden_dropout_rate=self.dropout_rate,
            seed=seeds[1],
            dtype=self.dtype_policy,
            name="mlp",
        )
        self.mlp.build(input_shape)
        # One draw for all tokens of an example: the whole branch is skipped.
        self.drop_path1, self.drop_path2 = (
            self.dropout(self.drop_path_rate, name, seed, noise_shape=(None, 1, 1))
            for name, seed in (("drop_path1", seeds[2]), ("drop_path2", seeds[3]))
        )

    def call(self, inputs, training=False):
        x = self.attention(self.norm1(inputs), training=training)
        x = inputs + self.drop_path1(x, training=training)
        y = self.mlp(self.norm2(x), training=training)
        return x + self.drop_path2(y, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_t2t")
class DenseEncoderBlock(EncoderBlock):
    """`EncoderBlock` of the Dense flavour: appends `growth_rate` new channels to its input.

    Args:
        num_heads: Int, as in `EncoderBlock`, whose other arguments it takes too.
        growth_rate: Int, channels that the block adds. Defaults to 64.

    Input shape: `(batch, tokens, channels)`.
    Output shape: `(batch, tokens, channels + growth_rate)`.

    Raises:
        ValueError: As `EncoderBlock`, and if `growth_rate` is not a positive int.

    Source: `Block` in `models/t2t_vit_dense.py`; section 3.2 of the paper.
    """

    def __init__(self, num_heads: int, growth_rate: int = 64, **kwargs):
        super().__init__(num_heads, **kwargs)
        self.growth_rate = positive_int(growth_rate, "growth_rate")

    def build(self, input_shape):
        super().build(input_shape)
        seed = split_seed(self.seed, 5)[4]
        self.growth = self.linear(self.growth_rate, input_shape, "growth", seed=seed)

    def call(self, inputs, training=False):
        x = on_tokens(self.growth, super().call(inputs, training=training))
        return ops.concatenate((inputs, x), axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + self.growth_rate)


@keras.saving.register_keras_serializable(package="keras_t2t")
class Encoder(CompositeLayer):
    """The deep-narrow backbone as one layer: `depth` blocks and the last norm.

    `T2TViT` puts the blocks into its graph one by one; this layer serves other models.

    Args:
        depth: Int, number of blocks. Defaults to 14.
        num_heads: Int, number of attention heads. Defaults to 6.
        drop_path_rate: Float in [0, 1), stochastic depth of the last block; it grows in a line from
            0 at the first. Defaults to 0.
        mlp_ratio, qkv_bias, qk_scale, dropout_rate, attention_dropout_rate, flavor: As in
            `EncoderBlock`.
        seed: Int or `None`, seed of initial weights, dropout and drop path.

    Input and output shape: `(batch, tokens, channels)`.

    Raises:
        ValueError: If an argument is out of range, or `num_heads` does not divide the channels.

    Source: section 3.2 of the paper.
    """

    def __init__(
        self,
        depth: int = 14,
        num_heads: int = 6,
        mlp_ratio: float = 3.0,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        flavor: str = "plain",
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(seed=seed, **kwargs)
        self.depth = depth
        self.drop_path_rate = drop_path_rate
        block_arguments = {
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "qkv_bias": qkv_bias,
            "qk_scale": qk_scale,
            "dropout_rate": dropout_rate,
            "attention_dropout_rate": attention_dropout_rate,
            "flavor": flavor,
        }
        for name, value in block_arguments.items():
            setattr(self, name, value)
        self.blocks = encoder_blocks(
            depth, drop_path_rate, seed, "block", dtype=self.dtype_policy, **block_arguments
        )

    def build(self, input_shape):
        for block in self.blocks:
            block.build(input_shape)
        self.norm = self.layer_norm(input_shape, "norm")

    def call(self, inputs, training=False):
        x = inputs
        for block in self.blocks:
            x = block(x, training=training)
        return self.norm(x)

    def compute_output_shape(self, input_shape):
        return input_shape
