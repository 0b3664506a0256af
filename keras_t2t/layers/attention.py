"""Token attention: softmax, and the Performer's positive random features."""

import math

import keras
from keras import ops

from keras_t2t.layers.chunked_attention import chunked_attention
from keras_t2t.layers.composite import CompositeLayer, on_tokens, split_seed
from keras_t2t.layers.squeeze_excite import SqueezeExcite
from keras_t2t.validation import positive_int, positive_number, rate


def fused_attention(dtype):
    """Whether attention is one kernel here that never holds all of it."""
    if keras.backend.backend() == "torch":
        return True  # on CPUs too: a fifth less time over the 3136 tokens of a Transformer's stem
    if keras.backend.backend() == "jax":
        import jax

        return jax.default_backend() == "gpu" and dtype in ("bfloat16", "float16")
    return False


# Attention of more values than this, for each example and head, is never held as a whole.
WHOLE_ATTENTION = 4096**2


@keras.saving.register_keras_serializable(package="keras_t2t")
class SelfAttention(CompositeLayer):
    """Softmax self-attention of the encoder and of the T2T Transformer.

    Args:
        num_heads: Int, number of attention heads. Defaults to 1.
        dim: Int, channels of queries, keys, values and output. `None`, the default, means those of
            the input.
        qkv_bias: Bool, whether queries, keys and values have a bias. Defaults to `False`.
        qk_scale: Float that multiplies the products of queries and keys. `None`, the default, means
            `(input channels // num_heads) ** -0.5`. As published this is not the size of a head
            where `dim` differs from the input's channels.
        value_shortcut: Bool, whether the values are added to the output, as in the T2T Transformer,
            whose output has another number of channels than its input. Defaults to `False`.
        squeeze_excite: Bool, whether a `SqueezeExcite` weighs the channels of the output.
            Defaults to `False`.
        dropout_rate: Float in [0, 1), dropout of the output. Defaults to 0.
        attention_dropout_rate: Float in [0, 1), dropout of the attention. Defaults to 0.
        seed: Int or `None`, seed of initial weights and dropout.

    Input shape: `(batch, tokens, channels)`. Output shape: `(batch, tokens, dim)`.

    Raises:
        ValueError: If an argument is out of range, or `num_heads` does not divide `dim`.

    Source: `Attention` in `models/transformer_block.py`, `models/token_transformer.py` and
        `models/t2t_vit_se.py`.
    """

    def __init__(
        self,
        num_heads: int = 1,
        dim: int | None = None,
        qkv_bias: bool = False,
        qk_scale: float | None = None,
        value_shortcut: bool = False,
        squeeze_excite: bool = False,
        dropout_rate: float = 0.0,
        attention_dropout_rate: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.num_heads = positive_int(num_heads, "num_heads")
        self.dim = None if dim is None else positive_int(dim, "dim")
        self.qkv_bias = qkv_bias
        self.qk_scale = None if qk_scale is None else positive_number(qk_scale, "qk_scale")
        self.value_shortcut = value_shortcut
        self.squeeze_excite = squeeze_excite
        self.dropout_rate = rate(dropout_rate, "dropout_rate")
        self.attention_dropout_rate = rate(attention_dropout_rate, "attention_dropout_rate")

    def build(self, input_shape):
        *batch_and_tokens, channels = input_shape
        dim = self.dim or channels
        if dim % self.num_heads:
            raise ValueError(
                f"{self.name}: `num_heads` must divide the channels of the queries. "
                f"Received: num_heads={self.num_heads}, channels={dim}"
            )
        self.scale = self.qk_scale or (channels // self.num_heads) ** -0.5
        output_shape = (*batch_and_tokens, dim)
        seeds = split_seed(self.seed, 5)
        self.build_query_key_value(input_shape, dim, seeds[0])
        self.attention_dropout = self.dropout(
            self.attention_dropout_rate, "attention_dropout", seeds[1]
        )
        self.projection = self.linear(dim, output_shape, "projection", seed=seeds[2])
        if self.squeeze_excite:
            self.excite = SqueezeExcite(seed=seeds[3], dtype=self.dtype_policy, name="excite")
            self.excite.build(output_shape)
        self.output_dropout = self.dropout(self.dropout_rate, "output_dropout", seeds[4])

    def build_query_key_value(self, input_shape, dim, seed):
        """Creates what `query_key_value` computes with."""
        self.qkv = self.linear(3 * dim, input_shape, "qkv", use_bias=self.qkv_bias, seed=seed)

    def query_key_value(self, inputs):
        """Queries, keys and values of the input, each `(batch, tokens, dim)`."""
        return ops.split(on_tokens(self.qkv, inputs), 3, axis=-1)

    def attention(self, query, key):
        """The attention of each token to every other: `(batch, heads, tokens, tokens)`."""
        query = self._split_heads(query * self.scale, (0, 2, 1, 3))
        key = self._split_heads(key, (0, 2, 3, 1))
        # Half precision has not the digits to sum the exponentials of hundreds of tokens.
        scores = ops.cast(ops.matmul(query, key), self.stable_dtype)
        return ops.cast(ops.softmax(scores), self.compute_dtype)

    def attention_weights(self, inputs, queries=None):
        """The attention that the layer gives to `inputs`, to look at.

        Args:
            inputs: Tensor `(batch, tokens, channels)`, as the layer takes.
            queries: Ints, the indices of the tokens whose attention is wanted. `None`, the default,
                means all.

        Returns:
            Tensor `(batch, heads, queries, tokens)`; each row sums to 1.
        """
        query, key, _ = self.query_key_value(inputs)
        if queries is not None:
            query = ops.take(query, queries, axis=1)
        return self.attention(query, key)

    def call(self, inputs, training=False):
        return self.attend(*self.query_key_value(inputs), training=training)

    def attend(self, query, key, value, training=False):
        """What `call` gives for these queries, keys and values, each `(batch, tokens, dim)`."""
        x = on_tokens(self.projection, self.weighted_values(query, key, value, training))
        if self.squeeze_excite:
            x = self.excite(x)
        x = self.output_dropout(x, training=training)
        return x + value if self.value_shortcut else x

    def weighted_values(self, query, key, value, training):
        """The values weighed by the attention of each query: `(batch, queries, dim)`."""
        drops = training and self.attention_dropout_rate
        size = (query.shape[1] or 0) * (key.shape[1] or 0)
        if fused_attention(self.compute_dtype) and not drops:
            query, key, value = (self._split_heads(x, (0, 1, 2, 3)) for x in (query, key, value))
            x = ops.dot_product_attention(query, key, value, scale=self.scale)
        elif size > WHOLE_ATTENTION and not drops:
            query, key, value = (self._split_heads(x, (0, 2, 1, 3)) for x in (query, key, value))
            x = chunked_attention(query, key, value, self.scale, self.stable_dtype)
            x = ops.transpose(x, (0, 2, 1, 3))
        else:
            attention = self.attention_dropout(self.attention(query, key), training=training)
            x = ops.matmul(attention, self._split_heads(value, (0, 2, 1, 3)))
            x = ops.transpose(x, (0, 2, 1, 3))
        return ops.reshape(x, (-1, ops.shape(x)[1], x.shape[2] * x.shape[3]))

    def _split_heads(self, x, axes):
        """Splits the channels by head and orders (batch, tokens, heads, channels) by `axes`."""
        shape = (-1, ops.shape(x)[1], self.num_heads, x.shape[-1] // self.num_heads)
        return ops.transpose(ops.reshape(x, shape), axes)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.dim or input_shape[-1])


@keras.saving.register_keras_serializable(package="keras_t2t")
class PerformerAttention(CompositeLayer):
    """The Performer's attention: linear in the number of tokens, and the values added.

    Computes the published function of queries `q`, keys `k` and values `v`,

        phi(x) = exp(w x - |x|^2 / 2) / sqrt(m)
        y = phi(q) (phi(k)^T v) / (phi(q) sum phi(k) + 1e-8)
        output = v + dropout(projection(y))

    in log space and in at least float32 under every policy, so that nothing overflows, and a
    denominator that underflows does not become 0 / 0.

    Args:
        dim: Int, channels of queries, keys, values and output.
        feature_ratio: Float, random features for each channel. Defaults to 0.5: `m = dim / 2`.
        dropout_rate: Float in [0, 1), dropout after the projection. Defaults to 0; the published
            models train with 0.1.
        seed: Int or `None`, seed of initial weights and dropout.

    Input shape: `(batch, tokens, channels)`. Output shape: `(batch, tokens, dim)`.

    Raises:
        ValueError: If an argument is out of range.

    Source: `Token_performer` in `models/token_performer.py`; Choromanski et al., "Rethinking
        Attention with Performers", 2021.
    """

    def __init__(self, dim: int, feature_ratio: float = 0.5, dropout_rate: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.dim = positive_int(dim, "dim")
        self.feature_ratio = positive_number(feature_ratio, "feature_ratio")
        self.num_features = int(self.dim * self.feature_ratio)
        if self.num_features < 1:
            raise ValueError(
                "`feature_ratio` must leave at least one random feature. "
                f"Received: feature_ratio={feature_ratio!r} with dim={dim}"
            )
        self.dropout_rate = rate(dropout_rate, "dropout_rate")

    def build(self, input_shape):
        output_shape = self.compute_output_shape(input_shape)
        seeds = split_seed(self.seed, 4)
        # Keys first: the published order.
        self.kqv = self.linear(3 * self.dim, input_shape, "kqv", seed=seeds[0])
        self.features = self.add_weight(
            shape=(self.num_features, self.dim),
            initializer=keras.initializers.Orthogonal(
                gain=math.sqrt(self.num_features), seed=seeds[1]
            ),
            dtype=self.stable_dtype,
            autocast=False,
            trainable=False,
            name="features",
        )
        self.projection = self.linear(self.dim, output_shape, "projection", seed=seeds[2])
        self.output_dropout = self.dropout(self.dropout_rate, "output_dropout", seeds[3])

    def log_features(self, x):
        """`log(phi(x) * sqrt(m))` in at least float32: `(batch, tokens, m)`."""
        x = ops.cast(x, self.stable_dtype)
        projected = ops.matmul(x, ops.transpose(self.features))
        return projected - 0.5 * ops.sum(ops.square(x), axis=-1, keepdims=True)

    def quotient(self, query, key):
        """phi(query), phi(key), and what their product is divided by, on a scale without overflow.

        Shapes: `(batch, queries, m)`, `(batch, tokens, m)`, `(batch, queries, 1)`.
        """
        log_key, log_query = self.log_features(key), self.log_features(query)
        # The largest exponents are taken out, per feature from the keys and per query from the
        # rest. They cancel in the quotient, so no gradient needs to pass through them.
        key_peak = ops.stop_gradient(ops.max(log_key, axis=1, keepdims=True))
        log_query = log_query + key_peak
        query_peak = ops.stop_gradient(ops.max(log_query, axis=-1, keepdims=True))
        key_features = ops.exp(log_key - key_peak)
        query_features = ops.exp(log_query - query_peak)
        # The published 1e-8 on the same scale. The bound keeps the exponential finite; there the
        # quotient is zero to the last digit either way.
        epsilon = ops.exp(ops.minimum(math.log(1e-8 * self.num_features) - query_peak, 80.0))
        total = ops.sum(query_features * ops.sum(key_features, axis=1, keepdims=True), -1)
        return query_features, key_features, ops.expand_dims(total, -1) + epsilon

    def attention_weights(self, inputs, queries=None):
        """The attention that the random features imply: `phi(q) phi(k)^T`, normalised.

        The layer itself never computes it: it grows with the square of the number of tokens.

        Args:
            inputs: Tensor `(batch, tokens, channels)`, as the layer takes.
            queries: Ints, the indices of the tokens whose attention is wanted. `None`, the default,
                means all.

        Returns:
            Tensor `(batch, 1, queries, tokens)` in at least float32; each row sums to 1, less what
            the published 1e-8 takes.
        """
        key, query, _ = ops.split(self.kqv(inputs), 3, axis=-1)
        if queries is not None:
            query = ops.take(query, queries, axis=1)
        query_features, key_features, total = self.quotient(query, key)
        weights = ops.matmul(query_features, ops.transpose(key_features, (0, 2, 1))) / total
        return ops.expand_dims(weights, 1)

    def call(self, inputs, training=False):
        key, query, value = ops.split(on_tokens(self.kqv, inputs), 3, axis=-1)
        query_features, key_features, total = self.quotient(query, key)
        key_features = ops.transpose(key_features, (0, 2, 1))
        weighted = ops.matmul(key_features, ops.cast(value, self.stable_dtype))
        y = ops.cast(ops.matmul(query_features, weighted) / total, self.compute_dtype)
        return value + self.output_dropout(on_tokens(self.projection, y), training=training)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.dim)
