"""Softmax attention in memory linear in the number of tokens, forward and backward."""

import math

from keras import ops

CHUNK = 2**20  # values of the attention that exist at one time, for each example and head


def chunked_attention(query, key, value, scale, dtype):
    """`softmax(scale * query key^T) value`, some queries after another.

    The loop is a real one, with a gradient of its own that computes the attention anew: neither
    unrolled parts nor rematerialised ones keep XLA from holding all of it.

    Args:
        query: Tensor `(batch, heads, queries, channels)`.
        key, value: Tensors `(batch, heads, tokens, channels)`.
        scale: Float that multiplies the products of queries and keys.
        dtype: The dtype of the exponentials and of their sums.

    Returns:
        Tensor `(batch, heads, queries, channels)`.

    Source: Rabe and Staats, "Self-attention Does Not Need O(n^2) Memory", 2021.
    """
    tokens = key.shape[-2]
    chunks = _chunks(query.shape[-2], tokens)

    def attention(part, key):
        scores = ops.cast(ops.matmul(part * scale, ops.swapaxes(key, -1, -2)), dtype)
        return ops.softmax(scores)

    @ops.custom_gradient
    def attend(query, key, value):
        def forward(part):
            return ops.matmul(ops.cast(attention(part, key), value.dtype), value)

        def gradient(upstream):
            parts, upstreams = _split(query, chunks), _split(upstream, chunks)

            def step(index, sums):
                part, by_output = parts[index], upstreams[index]
                weights = attention(part, key)
                by_weights = ops.cast(ops.matmul(by_output, ops.swapaxes(value, -1, -2)), dtype)
                mean = ops.sum(weights * by_weights, axis=-1, keepdims=True)
                by_scores = ops.cast(weights * (by_weights - mean), query.dtype)
                weights = ops.cast(weights, query.dtype)
                by_query, by_key, by_value = sums
                by_part = scale * ops.matmul(by_scores, key)
                return (
                    ops.slice_update(by_query, (index, 0, 0, 0, 0), ops.expand_dims(by_part, 0)),
                    by_key + ops.matmul(ops.swapaxes(by_scores, -1, -2), part * scale),
                    by_value + ops.matmul(ops.swapaxes(weights, -1, -2), by_output),
                )

            zeros = [ops.zeros_like(x) for x in (parts, key, value)]
            by_query, by_key, by_value = ops.fori_loop(0, chunks, step, tuple(zeros))
            return _join(by_query), by_key, by_value

        return _join(ops.map(forward, _split(query, chunks))), gradient

    return attend(query, key, value)


def _chunks(queries, tokens):
    """The fewest equal parts of the queries that keep to the size of a chunk."""
    for parts in range(math.ceil(queries * tokens / CHUNK), queries):
        if queries % parts == 0:
            return parts
    return queries


def _split(x, chunks):
    """`(batch, heads, queries, channels)` to `(chunks, batch, heads, part, channels)`."""
    _, heads, queries, channels = x.shape
    x = ops.reshape(x, (-1, heads, chunks, queries // chunks, channels))
    return ops.transpose(x, (2, 0, 1, 3, 4))


def _join(x):
    chunks, _, heads, part, channels = x.shape
    return ops.reshape(ops.transpose(x, (1, 2, 0, 3, 4)), (-1, heads, chunks * part, channels))
