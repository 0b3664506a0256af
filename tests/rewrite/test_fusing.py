"""A fused model against the plain one on whose layers it stands."""

import json
import zipfile

import keras
import numpy as np
import pytest
from keras import ops

from keras_t2t import fuse
from tests.gradients import gradients
from tests.inspection.operation_counters import count_macs
from tests.inspection.small_models import images, small_model

CASES = (
    {},
    {"token_mixer": "transformer"},
    {"token_mixer": "patch", "input_shape": (32, 32, 3)},
    {"token_mixer": "convolution"},
    {"qkv_bias": True},
    {"flavor": "squeeze_excite"},
    {"flavor": "ghost"},
    {"flavor": "dense", "depth": (1, 1), "growth_rate": 6},
    {"include_top": False},
    {"include_top": False, "pooling": "token"},
    {"include_top": False, "pooling": "avg"},
)


def predictions(model, x):
    # Operation by operation, JAX would compile each of them; the others would trace for nothing.
    if keras.backend.backend() == "jax":
        return model.predict(x, verbose=0)
    outputs = model(x, training=False)
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)


@pytest.mark.parametrize("arguments", CASES, ids=str)
def test_equals_the_plain_model(arguments):
    model = small_model(**{"depth": 1, **arguments})
    x = images(2, model.input_shape[1:])
    expected = predictions(model, x)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(predictions(fuse(model), x), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        pytest.param({"token_mixer": "transformer"}, marks=pytest.mark.above_backends),
        pytest.param({"qkv_bias": True}, marks=pytest.mark.above_backends),
    ],
)
def test_gradients_equal_those_of_the_plain_model(arguments):
    model = small_model(**arguments, classifier_activation=None)
    loss = lambda y: ops.sum(ops.square(y))  # noqa: E731
    value, *found = gradients(fuse(model), loss, images())
    expected_value, *expected = gradients(model, loss, images())
    assert value == pytest.approx(expected_value, rel=1e-5)
    largest = max(np.abs(gradient).max() for gradient in expected[0])
    for ours, plain in zip([*found[0], found[1]], [*expected[0], expected[1]], strict=True):
        tolerance = max(1e-4 * np.abs(plain).max(), 1e-6 * largest)
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=tolerance)


def test_as_many_products_are_saved_as_can_be_counted():
    model = small_model()
    x = ops.convert_to_tensor(images(1))
    # 2 x 2 patches and the class token of 24 channels: for the patches no query, key, value,
    # projection, or MLP from 24 to 72 and back. What the class token asks of the tokens, and what
    # it takes from them, goes through the keys' and values' kernels once.
    saved = 4 * (3 * 24 * 24 + 24 * 24 + 2 * 24 * 72)
    # Attention: 5 x 5 products of queries and keys and as many of values, over 24 channels. Now
    # one query for each of 3 heads, over 24 channels each.
    saved += 2 * 24 * (5 * 5 - 3 * 5)
    # The second stage's norm's offset goes through the kernel behind it: 3 x 3 x 8 to 3 x 8.
    spent = 72 * 24
    # The projections of 6 x 8 and 3 x 4 tokens become those of 4 random features each.
    saved += (6 * 8 + 3 * 4 - 2 * 4) * 8 * 8
    assert count_macs(model, x) - count_macs(fuse(model), x) == saved - spent


@pytest.mark.above_backends
def test_a_model_around_another_is_fused_within():
    """As of the recipe whose head stands on the mean of all tokens."""
    inner = small_model(include_top=False, pooling="token")
    head = keras.layers.Dense(3, name="outer_head")
    outer = keras.Model(inner.input, head(inner.output))
    nested = keras.Sequential([keras.Input(inner.input_shape[1:]), inner, head])
    x = ops.convert_to_tensor(images(1))
    saved = count_macs(inner, x) - count_macs(fuse(inner), x)
    assert saved > 0
    for model in (outer, nested):
        assert count_macs(model, x) - count_macs(fuse(model), x) == saved
        np.testing.assert_allclose(
            predictions(fuse(model), images()), predictions(model, images()), rtol=1e-4, atol=2e-5
        )


@pytest.mark.above_backends
def test_what_reads_all_tokens_gets_them():
    model = small_model()
    block, norm = model.get_layer("encoder_block_1"), model.get_layer("norm")
    plain = keras.Model(model.input, [block.output, norm.output, model.output])
    for ours, expected in zip(
        predictions(fuse(plain), images()), predictions(plain, images()), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.above_backends
def test_a_branching_graph():
    inputs = keras.Input((24, 32, 3))
    doubled = keras.layers.Add()([keras.layers.Rescaling(1.5)(inputs), inputs])
    model = small_model(input_tensor=doubled * 1.0)
    plain = small_model()
    plain.set_weights(model.get_weights())
    x = images()
    expected = predictions(plain, 2.5 * x)
    np.testing.assert_allclose(predictions(model, x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predictions(fuse(model), x), expected, rtol=1e-4, atol=1e-5)


def test_a_layer_that_stands_twice():
    one, other = keras.Input((4, 6)), keras.Input((5, 6))
    twice = keras.layers.Dense(3)
    joined = keras.layers.Concatenate(axis=1)([twice(one), twice(other)])
    model = keras.Model([one, other], joined)
    x = [np.ones((2, *tensor.shape[1:]), "float32") for tensor in (one, other)]
    assert fuse(model).faster.output.shape == (None, 9, 3)
    np.testing.assert_array_equal(predictions(fuse(model), x), predictions(model, x))


def test_layers_and_variables_are_the_plain_models():
    model = small_model()
    fused = fuse(model)
    assert fused.name == model.name and isinstance(fused, keras.Model)
    assert [layer.name for layer in fused.layers] == [layer.name for layer in model.layers]
    assert fused.get_layer("encoder_block_1") is model.get_layer("encoder_block_1")
    for ours, plain in zip(fused.variables, model.variables, strict=True):
        assert ours is plain
    # The plain model's layers still stand in one graph alone.
    assert model.get_layer("encoder_block_1").output.shape == (None, 5, 24)
    with pytest.raises(ValueError, match="expected a functional or sequential"):
        fuse(Subclassed(name="own"))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def config(path):
    with zipfile.ZipFile(path) as file:
        return json.loads(file.read("config.json"))


@pytest.mark.above_backends
def test_the_file_is_the_plain_models(tmp_path):
    model = small_model(classifier_activation=None)
    fused = fuse(model)
    model.save(tmp_path / "plain.keras")
    keras.saving.save_model(fused, tmp_path / "fused.keras")
    assert config(tmp_path / "fused.keras") == config(tmp_path / "plain.keras")
    again = keras.saving.load_model(tmp_path / "fused.keras")
    assert type(again) is type(keras.Model(model.input, model.output))
    np.testing.assert_array_equal(predictions(again, images()), predictions(model, images()))
    fused.save_weights(tmp_path / "fused.weights.h5")
    model.set_weights([0 * weight for weight in model.get_weights()])
    model.load_weights(tmp_path / "fused.weights.h5")
    np.testing.assert_array_equal(predictions(again, images()), predictions(model, images()))


@pytest.mark.above_backends
def test_a_clone_computes_with_variables_of_its_own():
    fused = fuse(small_model())
    copy = keras.models.clone_model(fused)
    copy.set_weights([0 * weight for weight in fused.get_weights()])
    np.testing.assert_allclose(predictions(copy, images()), 1 / 5, rtol=1e-6)
    assert np.ptp(predictions(fused, images())) > 0.1


@pytest.mark.above_backends
def test_training_goes_on_from_its_file(tmp_path):
    """The optimizer's state is in the file, and is that of a plain model."""
    x, y = images(4), np.arange(4) % 3
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = fuse(small_model(classifier_activation=None, performer_dropout_rate=0.0))
    model.compile(keras.optimizers.Adam(1e-3), loss)
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert int(again.optimizer.iterations) == 2
    losses = [float(m.train_on_batch(x, y)) for m in (model, again)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_dropout_and_drop_path_work():
    model = small_model(dropout_rate=0.3, drop_path_rate=0.3, attention_dropout_rate=0.3)
    fused = fuse(model)
    x = ops.convert_to_tensor(images())
    one, other = (ops.convert_to_numpy(fused(x, training=True)) for _ in range(2))
    assert np.abs(one - other).max() > 1e-4
    still = [ops.convert_to_numpy(fused(x, training=False)) for _ in range(2)]
    np.testing.assert_array_equal(*still)


def test_freezing_takes_effect_in_both():
    model = small_model(classifier_activation=None)
    fused = fuse(model)
    for layer in model.layers[:-1]:
        layer.trainable = False
    assert len(fused.trainable_variables) == len(model.trainable_variables) == 2
    before = [ops.convert_to_numpy(v) for v in fused.variables]
    fused.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fused.fit(images(4), np.arange(4) % 3, verbose=0)
    changed = [
        variable.path
        for variable, old in zip(fused.variables, before, strict=True)
        if not np.array_equal(ops.convert_to_numpy(variable), old)
    ]
    assert {path.split("/")[0] for path in changed if "seed" not in path} == {"head"}


def linear_layers_behind_soft_splits(model):
    blocks = [model.get_layer(f"t2t_block_{index}").attention for index in (0, 1)]
    first = [getattr(block, "kqv", None) or block.qkv for block in blocks]
    return [model.get_layer("projection"), *first]


@pytest.mark.parametrize("token_mixer", ["performer", "transformer"])
def test_lora_is_not_fused_away(token_mixer):
    model = small_model(token_mixer)
    fused, x = fuse(model), images()
    before = predictions(fused, x)
    rng = np.random.default_rng(0)
    last = model.get_layer("encoder_block_1").attention.qkv
    projection = model.get_layer("t2t_block_0").attention.projection
    for linear in (*linear_layers_behind_soft_splits(model), last, projection):
        linear.enable_lora(2)
        linear.lora_kernel_b.assign(rng.normal(size=linear.lora_kernel_b.shape))
    model.make_predict_function(force=True)
    fused.make_predict_function(force=True)
    expected = predictions(model, x)
    assert np.abs(expected - before).max() > 1e-3
    np.testing.assert_allclose(predictions(fused, x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_quantised_layers_are_not_fused_away():
    model = small_model()
    fused, x = fuse(model), ops.convert_to_tensor(images())
    before = ops.convert_to_numpy(fused(x))
    for linear in linear_layers_behind_soft_splits(model):
        linear.quantize("int8")
    expected = ops.convert_to_numpy(model(x))
    assert np.abs(expected - before).max() > 1e-4
    np.testing.assert_allclose(ops.convert_to_numpy(fused(x)), expected, rtol=1e-4, atol=1e-5)


def test_inputs_are_taken_as_by_any_functional_model():
    model = fuse(small_model())
    x = images()
    expected = ops.convert_to_numpy(model(x))
    for given in ([x], {"images": x}):
        np.testing.assert_allclose(ops.convert_to_numpy(model(given)), expected, atol=1e-5)
    whole = np.random.default_rng(0).integers(0, 255, x.shape)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model(whole.astype("uint8"))),
        ops.convert_to_numpy(model(whole.astype("float32"))),
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = small_model(classifier_activation=None)
    fused = fuse(model)
    found, expected = (predictions(m, images()).astype("float32") for m in (fused, model))
    # Some ten roundings in a row of two to four digits.
    tolerance = {"mixed_float16": 2e-3, "mixed_bfloat16": 2e-2}[policy]
    np.testing.assert_allclose(found, expected, atol=10 * tolerance * np.abs(expected).max())


@pytest.mark.tensorflow
def test_mirrored_strategy():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = fuse(small_model(classifier_activation=None))
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(images(4), np.arange(4) % 3, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
