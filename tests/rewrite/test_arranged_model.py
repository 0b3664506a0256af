"""A model as it computes itself against its own graph, layer by layer."""

import keras
import numpy as np
import pytest
from keras import ops

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


def as_drawn(model):
    """The same graph, computed layer by layer."""
    return keras.Model(model.input, model.output)


def predictions(model, x):
    # Operation by operation, JAX would compile each of them; the others would trace for nothing.
    if keras.backend.backend() == "jax":
        return model.predict(x, verbose=0)
    outputs = model(x, training=False)
    return keras.tree.map_structure(ops.convert_to_numpy, outputs)


@pytest.mark.parametrize("arguments", CASES, ids=str)
def test_equals_its_graph(arguments):
    model = small_model(**{"depth": 1, **arguments})
    x = images(2, model.input_shape[1:])
    expected = predictions(as_drawn(model), x)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(predictions(model, x), expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("token_mixer", ["performer", "transformer"])
def test_gradients_equal_those_of_the_graph(token_mixer):
    model = small_model(token_mixer, classifier_activation=None)
    loss = lambda y: ops.sum(ops.square(y))  # noqa: E731
    value, *found = gradients(model, loss, images())
    expected_value, *expected = gradients(as_drawn(model), loss, images())
    assert value == pytest.approx(expected_value, rel=1e-5)
    for ours, plain in zip([*found[0], found[1]], [*expected[0], expected[1]], strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-4 * np.abs(plain).max())


def saved_and_loaded(model, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


@pytest.mark.parametrize("again", [lambda m, _: m, lambda m, _: keras.models.clone_model(m)])
def test_as_many_products_are_saved_as_can_be_counted(again, tmp_path):
    model = again(small_model(), tmp_path)
    x = ops.convert_to_tensor(images(1))
    # 2 x 2 patches and the class token of 24 channels: for the patches no query, attention,
    # projection, or MLP from 24 to 72 and back.
    saved = 4 * (24 * 24 + 2 * 5 * 24 + 24 * 24 + 2 * 24 * 72)
    # The second stage's norm's offset goes through the kernel behind it: 3 x 3 x 8 to 3 x 8.
    spent = 72 * 24
    # The projections of 6 x 8 and 3 x 4 tokens become those of 4 random features each.
    saved += (6 * 8 + 3 * 4 - 2 * 4) * 8 * 8
    assert count_macs(as_drawn(model), x) - count_macs(model, x) == saved - spent


def test_what_reads_all_tokens_gets_them():
    model = small_model()
    x = images()
    block, norm = model.get_layer("encoder_block_1"), model.get_layer("norm")
    tokens = predictions(keras.Model(model.input, [block.output, norm.output]), x)
    assert [part.shape for part in tokens] == [(2, 5, 24)] * 2
    pooled = keras.Model(model.input, model.get_layer("token_pooling").output)
    np.testing.assert_allclose(predictions(pooled, x), tokens[1][:, 0], rtol=1e-5, atol=1e-5)


def test_the_file_keeps_the_arrangement(tmp_path):
    model = small_model()
    again = saved_and_loaded(model, tmp_path)
    assert type(again) is type(model)
    x = images()
    np.testing.assert_array_equal(predictions(again, x), predictions(model, x))
    one = ops.convert_to_tensor(images(1))
    assert count_macs(again, one) == count_macs(model, one)


def test_a_file_of_the_plain_graph_loads(tmp_path):
    model = small_model()
    again = saved_and_loaded(as_drawn(model), tmp_path)
    x = images()
    np.testing.assert_allclose(predictions(again, x), predictions(model, x), rtol=1e-4, atol=1e-5)
    assert [v.path for v in again.weights] == [v.path for v in model.weights]


def linear_layers_behind_soft_splits(model):
    blocks = [model.get_layer(f"t2t_block_{index}") for index in (0, 1)]
    return [model.get_layer("projection"), *(block.first_linear for block in blocks)]


@pytest.mark.parametrize("token_mixer", ["performer", "transformer"])
def test_lora_is_not_folded_away(token_mixer):
    model = small_model(token_mixer)
    x = images()
    before = predictions(model, x)
    rng = np.random.default_rng(0)
    last = model.get_layer("encoder_block_1").attention.qkv
    for linear in (*linear_layers_behind_soft_splits(model), last):
        linear.enable_lora(2)
        linear.lora_kernel_b.assign(rng.normal(size=linear.lora_kernel_b.shape))
    model.make_predict_function(force=True)
    expected = predictions(as_drawn(model), x)
    assert np.abs(expected - before).max() > 1e-3
    np.testing.assert_allclose(predictions(model, x), expected, rtol=1e-4, atol=1e-5)


def test_quantised_layers_are_not_folded_away():
    model = small_model()
    x = ops.convert_to_tensor(images())
    before = ops.convert_to_numpy(model(x))
    for linear in linear_layers_behind_soft_splits(model):
        linear.quantize("int8")
    expected = ops.convert_to_numpy(as_drawn(model)(x))
    assert np.abs(expected - before).max() > 1e-4
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), expected, rtol=1e-4, atol=1e-5)


def test_layers_around_the_graph():
    # A branch before the model: there is no chain of layers, and the graph is computed as drawn.
    inputs = keras.Input((24, 32, 3))
    doubled = keras.layers.Add()([keras.layers.Rescaling(1.5)(inputs), inputs])
    model = small_model(input_tensor=doubled)
    plain = small_model()
    plain.set_weights(model.get_weights())
    x = images()
    np.testing.assert_allclose(
        predictions(model, x), predictions(plain, 2.5 * x), rtol=1e-4, atol=1e-5
    )


def test_inputs_are_taken_as_by_any_functional_model():
    model = small_model()
    x = images()
    expected = ops.convert_to_numpy(model(x))
    for given in ([x], {"images": x}):
        np.testing.assert_allclose(ops.convert_to_numpy(model(given)), expected, atol=1e-5)
    whole = np.random.default_rng(0).integers(0, 255, x.shape)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(model(whole.astype("uint8"))),
        ops.convert_to_numpy(model(whole.astype("float32"))),
    )
