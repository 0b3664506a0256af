"""The MLP of a transformer block."""

import keras

from keras_t2t.layers.composite import CompositeLayer, on_tokens, split_seed
from keras_t2t.validation import positive_int, rate


@keras.saving.register_keras_serializable(package="keras_t2t")
class MLP(CompositeLayer):
    """Two linear layers with the exact (erf) GELU between them.

    Args:
        hidden_dim: Int, units of the hidden layer.
        dropout_rate: Float in [0, 1), dropout of the output. Defaults to 0.
        hidden_dropout_rate: Float in [0, 1), dropout of the hidden layer. Defaults to 0.
        seed: Int or `None`, seed of initial weights and dropout.

    Input and output shape: `(..., channels)`.

    Raises:
        ValueError: If an argument is out of range.

    Source: `Mlp` in `models/transformer_block.py`; the Performer's has no hidden dropout.
    """

    input_spec = keras.layers.InputSpec(min_ndim=2)

    def __init__(
        self, hidden_dim: int, dropout_rate: float = 0.0, hidden_dropout_rate: float = 0.0, **kwargs
    ):
        super().__init__(**kwargs)
        self.hidden_dim = positive_int(hidden_dim, "hidden_dim")
        self.dropout_rate = rate(dropout_rate, "dropout_rate")
        self.hidden_dropout_rate = rate(hidden_dropout_rate, "hidden_dropout_rate")

    def build(self, input_shape):
        seeds = split_seed(self.seed, 4)
        self.build_hidden(input_shape, seeds[0])
        self.hidden_dropout = self.dropout(self.hidden_dropout_rate, "hidden_dropout", seeds[1])
        hidden_shape = (*input_shape[:-1], self.hidden_dim)
        self.fc2 = self.linear(input_shape[-1], hidden_shape, "fc2", seed=seeds[2])
        self.output_dropout = self.dropout(self.dropout_rate, "output_dropout", seeds[3])

    def build_hidden(self, input_shape, seed):
        """Creates what `hidden` computes with."""
        self.fc1 = self.linear(self.hidden_dim, input_shape, "fc1", activation="gelu", seed=seed)

    def hidden(self, inputs):
        """The hidden layer: `(..., hidden_dim)`."""
        return on_tokens(self.fc1, inputs)

    def call(self, inputs, training=False):
        x = self.hidden_dropout(self.hidden(inputs), training=training)
        return self.output_dropout(on_tokens(self.fc2, x), training=training)

    def compute_output_shape(self, input_shape):
        return input_shape
