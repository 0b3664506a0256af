"""The rewrite's dropout in all ways in which it may run: what it drops, and by which generator."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_t2t.rewrite.formulas import dropout

RATE = 0.3


def ways():
    """A layer's call with `training=True`, in all ways in which it may run."""
    yield "eager", lambda layer: lambda x: dropout(layer, x, True)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for compiled in (False, True):
            yield (
                f"jit_compile={compiled}",
                lambda layer, compiled=compiled: tf.function(
                    lambda x: dropout(layer, x, True), jit_compile=compiled
                ),
            )


@pytest.fixture(params=ways(), ids=lambda way: way[0])
def way(request):
    return request.param[1]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_values_are_dropped_at_the_rate_and_the_others_scaled(way, dtype):
    draw = way(keras.layers.Dropout(RATE, seed=1, dtype=dtype))
    x = ops.ones((8, 100, 64), dtype)
    first, second = (ops.convert_to_numpy(ops.cast(draw(x), "float32")) for _ in range(2))
    kept = first != 0
    slack = 2**-8 * (dtype == "bfloat16")  # numbers of so few digits meet the rate only so well
    np.testing.assert_allclose(
        first[kept], 1 / (1 - RATE), rtol=1e-2 if dtype != "float32" else 1e-6
    )
    # Five standard deviations of the share of so many draws.
    deviation = (RATE * (1 - RATE) / kept.size) ** 0.5
    assert abs(kept.mean() - (1 - RATE)) < 5 * deviation + slack
    # Steps, examples, tokens and channels are independent of one another.
    agreement = 1 - 2 * RATE * (1 - RATE)
    for one, other in (
        (kept, second != 0),
        (kept[1:], kept[:-1]),
        (kept[:, 1:], kept[:, :-1]),
        (kept[..., 1:], kept[..., :-1]),
    ):
        share = (one == other).mean()
        assert abs(share - agreement) < 5 * (0.25 / one.size) ** 0.5 + slack


def test_a_seed_repeats_the_draws(way):
    x = ops.ones((2, 5, 64))
    ones, others = (
        [draw(x), draw(x)] for draw in (way(keras.layers.Dropout(RATE, seed=7)) for _ in range(2))
    )
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(one), ops.convert_to_numpy(other))


@pytest.mark.tensorflow
def test_without_training_nothing_is_dropped_where_it_is_compiled():
    import tensorflow as tf

    layer = keras.layers.Dropout(RATE)
    x = np.ones((2, 3, 4), "float32")
    passed = tf.function(lambda x: dropout(layer, x, False), jit_compile=True)(x)
    np.testing.assert_array_equal(passed, x)


@pytest.mark.tensorflow
@pytest.mark.parametrize("nested", [False, True])
def test_compiled_draws_are_threefry(nested):
    import tensorflow as tf

    layer = keras.layers.Dropout(RATE)
    inner = tf.function(lambda x: dropout(layer, x, True))
    draw = tf.function(inner if nested else inner.python_function, jit_compile=True)
    graph = draw.experimental_get_compiler_ir(tf.ones((2, 3, 4)))(stage="hlo")
    assert "algorithm=rng_three_fry" in graph
