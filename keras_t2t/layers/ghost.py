"""The Ghost flavour: half of the channels are computed, the others are cheap copies of them."""

import keras
from keras import ops

from keras_t2t.layers.attention import SelfAttention
from keras_t2t.layers.composite import on_tokens, split_seed
from keras_t2t.layers.mlp import MLP


def _cheap_operation(layer, channels, name, seed):
    """The weight of a depthwise 1x1 convolution: one factor for each channel."""
    return layer.add_weight(
        shape=(1, 1, channels),
        # PyTorch's default for a convolution of one input, which the published code leaves it at.
        initializer=keras.initializers.RandomUniform(-1.0, 1.0, seed=seed),
        name=name,
    )


@keras.saving.register_keras_serializable(package="keras_t2t")
class GhostAttention(SelfAttention):
    """`SelfAttention` whose queries, keys and values are half computed, half cheap copies.

    Takes the arguments of `SelfAttention`.

    Raises:
        ValueError: As `SelfAttention`, and if the channels are not even.

    Source: `Attention_ghost` in `models/t2t_vit_ghost.py`; section 3.2 of the paper.
    """

    def build_query_key_value(self, input_shape, dim, seed):
        if dim % 2:
            raise ValueError(f"{self.name}: the channels must be even. Received: channels={dim}")
        half = dim // 2
        seeds = split_seed(seed, 6)
        self.query, self.key, self.value = (
            self.linear(half, input_shape, name, use_bias=self.qkv_bias, seed=seed)
            for name, seed in zip(("query", "key", "value"), seeds[:3], strict=True)
        )
        self.cheap_query, self.cheap_key, self.cheap_value = (
            _cheap_operation(self, half, f"cheap_{name}", seed)
            for name, seed in zip(("query", "key", "value"), seeds[3:], strict=True)
        )

    def query_key_value(self, inputs):
        parts = (
            (self.query, self.cheap_query),
            (self.key, self.cheap_key),
            (self.value, self.cheap_value),
        )
        computed = [(on_tokens(linear, inputs), cheap) for linear, cheap in parts]
        return [ops.concatenate((x, x * cheap), axis=-1) for x, cheap in computed]


@keras.saving.register_keras_serializable(package="keras_t2t")
class GhostMLP(MLP):
    """`MLP` whose hidden layer is one third computed, two thirds cheap copies.

    Takes the arguments of `MLP`.

    Raises:
        ValueError: As `MLP`, and if `hidden_dim` is not three times the channels.

    Source: `Mlp_ghost` in `models/t2t_vit_ghost.py`; section 3.2 of the paper.
    """

    input_spec = keras.layers.InputSpec(ndim=3)

    def build_hidden(self, input_shape, seed):
        channels = input_shape[-1]
        if self.hidden_dim != 3 * channels:
            raise ValueError(
                f"{self.name}: `hidden_dim` must be three times the channels (mlp_ratio=3). "
                f"Received: hidden_dim={self.hidden_dim}, channels={channels}"
            )
        seeds = split_seed(seed, 3)
        self.fc1 = self.linear(channels, input_shape, "fc1", activation="gelu", seed=seeds[0])
        self.cheap_2 = _cheap_operation(self, channels, "cheap_2", seeds[1])
        self.cheap_3 = _cheap_operation(self, channels, "cheap_3", seeds[2])

    def hidden(self, inputs):
        x = on_tokens(self.fc1, inputs)
        copies = (ops.gelu(x * cheap, approximate=False) for cheap in (self.cheap_2, self.cheap_3))
        return ops.concatenate((x, *copies), axis=-1)
