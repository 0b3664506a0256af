"""The class token, the fixed sinusoid positions, and what leaves the encoder."""

import keras
import numpy as np
from keras import ops

from keras_t2t.validation import one_of, static_shape


def sinusoid_table(positions, dim):
    """The fixed table of positions: float32 `(1, positions, dim)`.

    Channel `2i` holds the sine and `2i + 1` the cosine of `position / 10000 ** (2i / dim)`.

    Source: `get_sinusoid_encoding` in `models/transformer_block.py`.
    """
    channel = np.arange(dim)
    angle = np.arange(positions)[:, None] / 10000.0 ** (channel // 2 * 2 / dim)
    table = np.where(channel % 2 == 0, np.sin(angle), np.cos(angle))
    return table[None].astype("float32")


@keras.saving.register_keras_serializable(package="keras_t2t")
class ClassToken(keras.layers.Layer):
    """Puts the learned class token in front of the tokens.

    Args:
        seed: Int or `None`, seed of its initial value, Normal(0, 0.02).

    Input shape: `(batch, tokens, channels)`. Output shape: `(batch, 1 + tokens, channels)`.
    """

    input_spec = keras.layers.InputSpec(ndim=3)

    def __init__(self, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, input_shape):
        self.token = self.add_weight(
            shape=(1, 1, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02, seed=self.seed),
            name="class_token",
        )

    def call(self, inputs):
        token = ops.broadcast_to(self.token, (ops.shape(inputs)[0], 1, inputs.shape[-1]))
        return ops.concatenate((token, inputs), axis=1)

    def compute_output_shape(self, input_shape):
        batch, tokens, channels = input_shape
        return (batch, None if tokens is None else tokens + 1, channels)

    def get_config(self):
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_t2t")
class SinusoidPositions(keras.layers.Layer):
    """Adds the fixed sinusoid positions.

    The table is a weight that does not train: published checkpoints carry it, and one that was
    resized for another image size is not the table that a fresh model computes.

    Input and output shape: `(batch, tokens, channels)`, all but the batch known.

    Raises:
        ValueError: If the number of tokens or channels is not known.

    Source: `pos_embed` in `models/t2t_vit.py`.
    """

    input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, input_shape):
        static_shape(self, input_shape, ("batch", "tokens", "channels"))
        self.table = self.add_weight(
            shape=(1, *input_shape[1:]),
            initializer=lambda shape, dtype: ops.cast(sinusoid_table(*shape[1:]), dtype),
            trainable=False,
            name="position_table",
        )

    def load_own_variables(self, store):
        there, here = tuple(store["0"].shape), tuple(self.table.shape)
        if there != here:
            raise ValueError(
                f"{self.name}: the file has positions {there} (1, tokens, channels), the model "
                f"{here}. Weights of another image size are resized by keras_t2t.create(..., "
                "weights=path)"
            )
        super().load_own_variables(store)

    def call(self, inputs):
        return inputs + self.table

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="keras_t2t")
class TokenPooling(keras.layers.Layer):
    """Reduces the encoder's tokens to one vector.

    Args:
        mode: `"token"`, the class token, which comes first; `"avg"` or `"max"`, the mean or maximum
            over all tokens but the class token. Defaults to `"token"`.

    Input shape: `(batch, 1 + patches, channels)`. Output shape: `(batch, channels)`.

    Raises:
        ValueError: If `mode` is unknown.
    """

    input_spec = keras.layers.InputSpec(ndim=3)

    def __init__(self, mode: str = "token", **kwargs):
        super().__init__(**kwargs)
        self.mode = one_of(mode, "mode", ("token", "avg", "max"))

    def call(self, inputs):
        if self.mode == "token":
            # A slice that keeps its axis: edge runtimes split the graph at one that drops it.
            return ops.reshape(inputs[:, :1], (-1, inputs.shape[-1]))
        reduce = ops.mean if self.mode == "avg" else ops.max
        return reduce(inputs[:, 1:], axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}
