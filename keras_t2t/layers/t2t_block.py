"""The T2T Transformer: one step of the Tokens-to-Token module."""

import math

import keras
from keras import ops

from keras_t2t.layers.attention import PerformerAttention, SelfAttention
from keras_t2t.layers.composite import CompositeLayer, split_seed
from keras_t2t.layers.mlp import MLP
from keras_t2t.layers.soft_split import Restructurization
from keras_t2t.validation import one_of, positive_int, positive_number, rate


@keras.saving.register_keras_serializable(package="keras_t2t")
class T2TBlock(CompositeLayer):
    """Norm, token attention with the value shortcut, norm, MLP: `channels` in, `dim` out.

    Args:
        dim: Int, channels of the output tokens. Defaults to 64.
        token_mixer: `"performer"` (linear in the number of tokens) or `"transformer"` (softmax
            attention of one head). Defaults to `"performer"`.
        mlp_ratio: Float, hidden units of the MLP for each channel. Defaults to 1.
        feature_ratio: Float, random features of the Performer for each channel. Defaults to 0.5.
        dropout_rate: Float in [0, 1), dropout after attention and MLP. Defaults to 0; the
            published models train the Performer with 0.1, the Transformer with 0.
        seed: Int or `None`, seed of initial weights and dropout.

    Input shape: `(batch, tokens, channels)` or `(batch, rows, columns, channels)`.
    Output shape: that of the input with `dim` channels.

    Raises:
        ValueError: If an argument is out of range or the input is neither sequence nor grid.

    Source: section 3.1 of the paper; `Token_performer` in `models/token_performer.py` and
        `Token_transformer` in `models/token_transformer.py`.
    """

    input_spec = keras.layers.InputSpec(min_ndim=3, max_ndim=4)

    def __init__(
        self,
        dim: int = 64,
        token_mixer: str = "performer",
        mlp_ratio: float = 1.0,
        feature_ratio: float = 0.5,
        dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.dim = positive_int(dim, "dim")
        self.token_mixer = one_of(token_mixer, "token_mixer", ("performer", "transformer"))
        self.mlp_ratio = positive_number(mlp_ratio, "mlp_ratio")
        self.feature_ratio = positive_number(feature_ratio, "feature_ratio")
        self.dropout_rate = rate(dropout_rate, "dropout_rate")

    def build(self, input_shape):
        self.grid = tuple(input_shape[1:-1])
        # Only a sequence may have an unknown length: a grid must be put back as it was.
        known = input_shape[1:] if len(self.grid) == 2 else input_shape[2:]
        if len(self.grid) not in (1, 2) or None in known:
            raise ValueError(
                f"{self.name}: expected an input of shape (batch, tokens, channels) or (batch, "
                f"rows, columns, channels) with known rows, columns and channels. "
                f"Received: {tuple(input_shape)}"
            )
        tokens = None if None in self.grid else math.prod(self.grid)
        input_shape = (input_shape[0], tokens, input_shape[-1])
        seeds = split_seed(self.seed, 2)
        common = {"dropout_rate": self.dropout_rate, "dtype": self.dtype_policy}
        self.norm1 = self.layer_norm(input_shape, "norm1")
        if self.token_mixer == "performer":
            self.attention = PerformerAttention(
                self.dim, self.feature_ratio, seed=seeds[0], name="attention", **common
            )
        else:
            self.attention = SelfAttention(
                dim=self.dim, value_shortcut=True, seed=seeds[0], name="attention", **common
            )
        self.attention.build(input_shape)
        output_shape = (*input_shape[:-1], self.dim)
        self.norm2 = self.layer_norm(output_shape, "norm2")
        self.mlp = MLP(int(self.dim * self.mlp_ratio), seed=seeds[1], name="mlp", **common)
        self.mlp.build(output_shape)
        self.restructurization = None
        if len(self.grid) == 2:
            self.restructurization = Restructurization(self.grid, dtype=self.dtype_policy)
            self.restructurization.build(output_shape)

    def call(self, inputs, training=False):
        x = inputs
        if self.restructurization:
            x = ops.reshape(x, (-1, math.prod(self.grid), x.shape[-1]))
        x = self.attention(self.norm1(x), training=training)
        x = x + self.mlp(self.norm2(x), training=training)
        return self.restructurization(x) if self.restructurization else x

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.dim)
