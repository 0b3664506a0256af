"""The arrangement for inference computes what the model computes."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_t2t import T2TViT, create, load_checkpoint
from keras_t2t.layers import SoftSplit, TokenPooling
from keras_t2t.rewrite.export import (
    FoldedClassTokenBlock,
    FoldedEncoderBlock,
    FoldedSoftSplit,
    fold,
    for_inference,
)
from tests import parity
from tests.exporting.trained import SHAPE, inputs, trained_model, with_weights

pytestmark = pytest.mark.tensorflow


def outputs(model, x):
    return np.array(model(x, training=False), "float32")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"token_mixer": "transformer", "qkv_bias": True, "qk_scale": 0.3},
        {"token_mixer": "convolution", "num_heads": 6},
        {"token_mixer": "patch"},
        {"flavor": "squeeze_excite"},
        {"flavor": "ghost"},
        {"flavor": "dense", "depth": (1, 1), "growth_rate": 24},
        {"include_top": False},
        {"include_top": False, "pooling": "avg"},
        {"include_top": False, "pooling": "token"},
        {"soft_splits": ((5, 2, 2), (3, 3, 1), (4, 1, 0))},
    ],
    ids=lambda arguments: "-".join(map(str, arguments.values())) or "performer",
)
def test_equals_the_model(arguments):
    model, x = trained_model(**arguments), inputs()
    expected = outputs(model, x)
    found = outputs(fold(for_inference(model)[0]), x)
    if arguments.get("include_top", True):
        expected = np.log(expected)
        found -= np.log(np.exp(found).sum(-1, keepdims=True))
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("variant", ["t2t_vit_7", "t2t_vit_t_14"])
def test_equals_the_published_numbers(variant):
    model = create(variant, classifier_activation=None)
    load_checkpoint(model, parity.reference_state_dict(variant))
    found = outputs(fold(model), parity.images())
    np.testing.assert_allclose(found, parity.expected(f"{variant}/logits"), atol=2e-5)


def test_finite_where_the_published_performer_overflows():
    model = trained_model()
    for block in ("t2t_block_0", "t2t_block_1"):
        kernel = model.get_layer(block).attention.kqv.kernel
        kernel.assign(30 * kernel)
    found = outputs(fold(for_inference(model)[0]), inputs())
    assert np.isfinite(found).all()
    np.testing.assert_allclose(
        np.exp(found) / np.exp(found).sum(-1, keepdims=True), outputs(model, inputs()), atol=1e-4
    )


def test_last_block_computes_the_class_token_alone_where_nothing_else_is_read():
    def token_only(model):
        blocks = (layer for layer in model.layers if isinstance(layer, FoldedEncoderBlock))
        return [isinstance(block, FoldedClassTokenBlock) for block in blocks]

    model = trained_model()
    assert token_only(fold(model)) == [False, True]
    assert token_only(fold(trained_model(include_top=False))) == [False, False]
    # Another layer reads all tokens behind the norm.
    tokens = model.get_layer("norm").output
    twice = keras.layers.Add()([TokenPooling("token")(tokens), TokenPooling("avg")(tokens)])
    both = keras.Model(model.input, twice)
    assert token_only(fold(both)) == [False, False]
    np.testing.assert_allclose(outputs(fold(both), inputs()), outputs(both, inputs()), atol=2e-5)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.integers(1, 4)] * 2),
    st.tuples(*[st.integers(1, 4)] * 2),
    st.tuples(*[st.integers(0, 3)] * 2),
    st.tuples(*[st.integers(8, 15)] * 2),
)
def test_soft_split_gives_the_same_values_in_the_order_that_it_tells(strides, more, padding, size):
    kernel = tuple(s + min(m, s) for s, m in zip(strides, more, strict=True))
    split = SoftSplit(kernel, strides, padding)
    assert FoldedSoftSplit.fits(split)
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    expected = np.asarray(split(x))[..., FoldedSoftSplit.order(split, 3)]
    np.testing.assert_array_equal(FoldedSoftSplit(split)(x), expected)


@pytest.mark.parametrize("kernel", [(2, 2), (5, 3), (3, 5)])
def test_soft_splits_of_other_kinds_are_left_alone(kernel):
    assert not FoldedSoftSplit.fits(SoftSplit(kernel, 2))


def test_models_within_models():
    inner = trained_model(include_top=False, pooling="token", preprocessing=None)
    x = keras.Input(SHAPE)
    functional = keras.Model(x, keras.layers.Dense(3, activation="gelu")(inner(x)))
    sequential = keras.Sequential([keras.Input(SHAPE), inner, keras.layers.Dense(3)])
    for model in (functional, sequential):
        with_weights(model)
        np.testing.assert_allclose(
            outputs(fold(model), inputs()), outputs(model, inputs()), atol=2e-5
        )


def test_layers_that_are_called_twice():
    model = trained_model(include_top=False, pooling="token", preprocessing=None)
    one, other = keras.Input(SHAPE), keras.Input(SHAPE)
    x = keras.Input(SHAPE)
    tokens = keras.layers.Reshape((-1, 3))(x)
    norm = keras.layers.LayerNormalization()
    twice = norm(norm(tokens))
    shared = keras.Model(x, keras.layers.Flatten()(twice)[:, :5])
    pair = keras.Model([one, other], keras.layers.Add()([model(one), model(other)]))
    with_weights(shared)
    np.testing.assert_allclose(
        outputs(fold(shared), inputs()), outputs(shared, inputs()), atol=2e-5
    )
    both = [inputs(seed=1), inputs(seed=2)]
    found = fold(pair)(both, training=False)
    np.testing.assert_allclose(found, pair(both, training=False), atol=2e-5)


def test_copy_for_inference_leaves_the_model_as_it_was():
    model, x = trained_model(), inputs()
    before = outputs(model, x)
    for _ in range(2):
        network, output = for_inference(model)
        assert output == "logits"
        fold(network)
    assert model.get_layer("soft_split_0").output is not None  # it still stands in one graph only
    np.testing.assert_array_equal(outputs(model, x), before)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_left_behind(policy):
    float32, x = trained_model(), inputs()
    keras.config.set_dtype_policy(policy)
    model = trained_model()
    keras.config.set_dtype_policy("float32")
    model.set_weights(float32.get_weights())
    network, _ = for_inference(model)
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    expected = outputs(for_inference(float32)[0], x)
    np.testing.assert_array_equal(outputs(network, x), expected)


@pytest.mark.parametrize("end", ["softmax", "Softmax", "Activation", None])
def test_softmax_at_the_end_is_taken_away(end):
    dense = keras.layers.Dense(4, activation="softmax" if end == "softmax" else None)
    layers = {"Softmax": keras.layers.Softmax, "Activation": keras.layers.Activation}
    ends = [layers[end](*(("softmax",) if end == "Activation" else ()))] if end in layers else []
    model = keras.Sequential([keras.Input((3,)), dense, *ends])
    network, output = for_inference(model)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    assert output == "logits"
    kernel, bias = dense.get_weights()
    np.testing.assert_allclose(outputs(network, x), x @ kernel + bias, atol=1e-6)


def test_other_ends_stay():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="sigmoid")])
    network, output = for_inference(model)
    x = np.ones((1, 3), "float32")
    assert output == "outputs"
    np.testing.assert_array_equal(outputs(network, x), outputs(model, x))


def test_quantised_layers_stay():
    model, x = trained_model(), inputs()
    model.quantize("int8")
    network = for_inference(model)[0]
    expected = np.log(outputs(model, x))
    found = outputs(fold(network), x)
    found -= np.log(np.exp(found).sum(-1, keepdims=True))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9999


def test_subclassed_models_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="expected a functional or sequential keras.Model"):
        for_inference(Own(name="own"))


def test_arranged_models_take_any_batch():
    model = fold(T2TViT(SHAPE, token_dim=8, embed_dim=8, depth=1, num_heads=1, classes=2))
    for count in (1, 3):
        assert outputs(model, inputs(count)).shape == (count, 2)
