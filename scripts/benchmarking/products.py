"""The matrix products that a network consists of, timed alone: the limit that arithmetic sets."""

import collections
import functools
import time

import keras
import numpy as np

from keras_t2t.inspection.complexity import layer_products

# More copies than this of one product tell nothing new, and fill the memory.
COPIES = 4
# Of so many repetitions in a row the fastest counts: a limit is what is possible.
REPEATS = 3


def batch_products(model, batch):
    """The products of a network without convolutions, each block computed in full as published.

    Returns:
        Counter of `(count, rows, inner, columns, needs_input_gradient)`: `count` products of
        `(rows, inner)` by `(inner, columns)` in one batched operation.

    Raises:
        ValueError: If the network has convolutions, which are timed as no product.
    """
    found = collections.Counter()
    for layer, products in layer_products(model):
        for kind, count, rows, inner, columns in products:
            if kind == "convolution":
                raise ValueError(f"model: {layer.name!r} has convolutions")
            # What is multiplied by a weight is one matrix, of all images.
            count, rows = (batch * count, rows) if kind == "attention" else (count, batch * rows)
            # The first is of the image, which needs no gradient.
            found[count, rows, inner, columns, bool(found)] += 1
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
