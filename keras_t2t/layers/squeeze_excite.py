"""Squeeze-and-excitation over tokens."""

import keras
from keras import ops

from keras_t2t.layers.composite import CompositeLayer, split_seed
from keras_t2t.validation import positive_int


@keras.saving.register_keras_serializable(package="keras_t2t")
class SqueezeExcite(CompositeLayer):
    """Weighs each channel by what the mean over all tokens says of it.

    Args:
        reduction: Int, the hidden layer has `channels // reduction` units. Defaults to 16.
        seed: Int or `None`, seed of initial weights.

    Input and output shape: `(batch, tokens, channels)`.

    Raises:
        ValueError: If `reduction` is not a positive int or leaves no hidden unit.

    Source: `SELayer` in `models/t2t_vit_se.py`; section 3.2 of the paper.
    """

    def __init__(self, reduction: int = 16, **kwargs):
        super().__init__(**kwargs)
        self.reduction = positive_int(reduction, "reduction")

    def build(self, input_shape):
        batch, _, channels = input_shape
        hidden = channels // self.reduction
        if hidden < 1:
            raise ValueError(
                f"{self.name}: `reduction` must not exceed the channels. "
                f"Received: reduction={self.reduction}, channels={channels}"
            )
        seeds = split_seed(self.seed, 2)
        self.squeeze = self.linear(
            hidden, (batch, channels), "squeeze", use_bias=False, activation="relu", seed=seeds[0]
        )
        self.excite = self.linear(
            channels, (batch, hidden), "excite", use_bias=False, activation="sigmoid", seed=seeds[1]
        )

    def call(self, inputs):
        weights = self.excite(self.squeeze(ops.mean(inputs, axis=1)))
        return inputs * ops.expand_dims(weights, 1)

    def compute_output_shape(self, input_shape):
        return input_shape
