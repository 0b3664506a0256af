"""The matrix products that a network consists of, timed alone: the limit that arithmetic sets."""

import collections
import functools
import time

import keras
import numpy as np

from keras_t2t.layers import ClassToken, EncoderBlock, SinusoidPositions, T2TBlock

# More copies than this of one product tell nothing new, and fill the memory.
COPIES = 4
# Of so many repetitions in a row the fastest counts: a limit is what is possible.
REPEATS = 3


def matrix_products(model, batch):
    """The products of a T2T-ViT of plain flavour, each block computed in full as published.

    Returns:
        Counter of `(count, rows, inner, columns, needs_input_gradient)`: `count` products of
        `(rows, inner)` by `(inner, columns)` in one batched operation.
    """
    found = collections.Counter()

    def dense(layer, rows, gradient=True):
        found[1, rows, *map(int, layer.kernel.shape), gradient] += 1

    def attention(count, tokens, channels):
        found[count, tokens, channels, tokens, True] += 1
        found[count, tokens, tokens, channels, True] += 1

    first = True
    for layer in model.layers:
        if isinstance(layer, T2TBlock):
            tokens, part = int(np.prod(layer.grid)), layer.attention
            if layer.token_mixer == "performer":
                dense(part.kqv, batch * tokens, not first)
                features = part.num_features
                found[1, batch * tokens, layer.dim, features, True] += 2
                found[batch, features, tokens, layer.dim, True] += 1
                found[batch, tokens, features, layer.dim, True] += 1
            else:
                dense(part.qkv, batch * tokens, not first)
                attention(batch, tokens, layer.dim)
            for inner in (part.projection, layer.mlp.fc1, layer.mlp.fc2):
                dense(inner, batch * tokens)
            first = False
        elif isinstance(layer, EncoderBlock):
            if layer.flavor != "plain":
                raise ValueError(f"flavor: expected 'plain', got {layer.flavor!r}")
            (_, tokens, channels), part = layer.input.shape, layer.attention
            attention(batch * layer.num_heads, tokens, channels // layer.num_heads)
            for inner in (part.qkv, part.projection, layer.mlp.fc1, layer.mlp.fc2):
                dense(inner, batch * tokens)
        elif layer.name == "projection" and isinstance(layer, keras.layers.Dense):
            dense(layer, batch * int(np.prod(layer.output.shape[1:3])), not first)
        elif isinstance(layer, keras.layers.Dense):
            dense(layer, batch)
        elif layer.weights and not isinstance(
            layer, (ClassToken, SinusoidPositions, keras.layers.LayerNormalization)
        ):
            raise ValueError(f"model: no products are known of {layer.name!r}")
    return found


def flops(products, training):
    """The floating-point operations of all products: forward, and in training backward too."""
    return sum(
        2 * times * count * rows * inner * columns * (1 + training * (1 + gradient))
        for (count, rows, inner, columns, gradient), times in products.items()
    )


def timer(products, training, dtype):
    """A function that runs all products once, and returns their seconds together."""
    compiled = {
        "tensorflow": _tensorflow,
        "jax": _jax,
        "torch": _torch,
    }[keras.backend.backend()]
    random = np.random.default_rng(0)
    runs = []
    for (count, rows, inner, columns, input_gradient), times in products.items():
        batch = () if count == 1 else (count,)
        copies = min(times, COPIES)

        def draw(*shape, batch=batch, copies=copies):
            values = random.normal(size=(*batch, *shape)).astype("float32")
            return [keras.ops.convert_to_tensor(values, dtype) + 0 for _ in range(copies)]

        a, b, c = draw(rows, inner), draw(inner, columns), draw(rows, columns)
        runs.append((compiled(False, False), a, b, times / copies))
        if training:
            runs.append((compiled(True, False), a, c, times / copies))
            if input_gradient:
                runs.append((compiled(False, True), c, b, times / copies))

    def seconds():
        total = 0.0
        for run, left, right, factor in runs:
            times = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                run(left, right)
                times.append(time.perf_counter() - start)
            total += factor * min(times)
        return total

    seconds()  # compiles
    return seconds


@functools.cache
def _tensorflow(transpose_a, transpose_b):
    import tensorflow as tf

    @tf.function(reduce_retracing=False)
    def products(left, right):
        return [
            tf.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b)
            for a, b in zip(left, right, strict=True)
        ]

    def run(left, right):
        # Copying one value waits for the device, where there is one.
        return float(tf.cast(tf.reshape(products(left, right)[-1], [-1])[0], "float32"))

    return run


@functools.cache
def _jax(transpose_a, transpose_b):
    import jax

    def swap(x, really):
        return x.swapaxes(-1, -2) if really else x

    @jax.jit
    def products(left, right):
        return [
            swap(a, transpose_a) @ swap(b, transpose_b) for a, b in zip(left, right, strict=True)
        ]

    return lambda left, right: jax.block_until_ready(products(left, right))


@functools.cache
def _torch(transpose_a, transpose_b):
    import torch

    def run(left, right):
        with torch.no_grad():
            for a, b in zip(left, right, strict=True):
                torch.matmul(a.mT if transpose_a else a, b.mT if transpose_b else b)
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return run
