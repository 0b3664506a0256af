"""T2TViT: the graph, its sizes, stems, outputs, initial values and errors."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_t2t
from keras_t2t.weights.building import build_unfilled, network
from tests import parity

SMALL = {
    "input_shape": (28, 28, 1),
    "soft_splits": ((3, 1, 1), (3, 2, 1), (3, 2, 1)),
    "token_dim": 16,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "classes": 5,
}


def small(**arguments):
    return keras_t2t.T2TViT(**{**SMALL, **arguments})


def images(model, batch=2):
    shape = (batch, *model.input_shape[1:])
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.parametrize("variant", parity.VARIANTS)
def test_parameter_counts_are_the_published_ones(variant):
    # Without initial values: 64 M of them take their time, and JAX compiles each shape's.
    model = build_unfilled(network(variant))
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert model.count_params() == parity.SPEC["variants"][variant]["parameters"]
    assert trainable == parity.SPEC["variants"][variant]["trainable"]


def test_graph_has_readable_names():
    model = keras_t2t.T2TViT7(input_shape=(64, 64, 3))
    assert model.name == "t2t_vit_7"
    assert [layer.name for layer in model.layers] == [
        "images",
        "preprocessing",
        "soft_split_0",
        "t2t_block_0",
        "soft_split_1",
        "t2t_block_1",
        "soft_split_2",
        "projection",
        "tokens",
        "class_token",
        "positions",
        *(f"encoder_block_{index}" for index in range(7)),
        "norm",
        "token_pooling",
        "head",
    ]


def test_output_of_any_block_is_at_hand():
    model = small()
    block = keras.Model(model.input, model.get_layer("encoder_block_1").output)
    assert block(images(model)).shape == (2, 1 + 49, 24)


@pytest.mark.parametrize("token_mixer", ["performer", "transformer", "convolution", "patch"])
def test_token_mixers_make_the_same_grid(token_mixer):
    model = small(token_mixer=token_mixer, performer_dropout_rate=0.0)
    assert model.get_layer("projection").output.shape == (None, 7, 7, 24)
    y = ops.convert_to_numpy(model(images(model)))
    assert y.shape == (2, 5)
    np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-5)


def test_patch_stem_is_the_plain_vit_patch_embedding():
    model = small(token_mixer="patch")
    x = images(model)
    projection = model.get_layer("projection")
    stem = keras.Model(model.input, projection.output)
    patches = x.reshape(2, 7, 4, 7, 4, 1).transpose(0, 1, 3, 2, 4, 5).reshape(2, 7, 7, 16)
    kernel, bias = (ops.convert_to_numpy(v) for v in projection.weights)
    np.testing.assert_allclose(
        ops.convert_to_numpy(stem(x)), patches @ kernel + bias, rtol=1e-4, atol=1e-5
    )
    # T2T-ViT-14 with the stem of ViT-S/16.
    model = keras_t2t.T2TViT14(token_mixer="patch")
    assert model.get_layer("projection").kernel.shape == (16 * 16 * 3, 384)


@pytest.mark.parametrize("size", [(224, 224), (96, 160), (50, 37), (9, 9), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_size_that_leaves_a_token(size, channels):
    splits = {"soft_splits": ((7, 4, 2), (3, 2, 1), (3, 2, 1))} if min(size) > 2 else {}
    model = build_unfilled(small, input_shape=(*size, channels), **splits)
    assert model.output_shape == (None, 5)
    assert model.get_layer("positions").table.shape[1] == 1 + np.prod(
        model.get_layer("projection").output.shape[1:3]
    )


@pytest.mark.parametrize(
    "pooling, shape", [(None, (2, 50, 24)), ("token", (2, 24)), ("avg", (2, 24)), ("max", (2, 24))]
)
def test_pooling_without_the_head(pooling, shape):
    tokens_model = small(include_top=False, seed=1)
    model = small(include_top=False, pooling=pooling, seed=1)
    x = images(model)
    tokens, y = (ops.convert_to_numpy(m(x)) for m in (tokens_model, model))
    expected = {
        None: tokens,
        "token": tokens[:, 0],
        "avg": tokens[:, 1:].mean(1),
        "max": tokens[:, 1:].max(1),
    }[pooling]
    assert y.shape == shape
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_input_tensor():
    inputs = keras.Input((28, 28, 1))
    scaled = keras.layers.Rescaling(2.0)(inputs)
    model, plain = small(input_tensor=scaled, seed=1), small(seed=1)
    assert model.inputs[0] is inputs
    x = images(plain)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model(x)), ops.convert_to_numpy(plain(2 * x)), rtol=1e-4, atol=1e-6
    )


def test_positions_stand_behind_the_class_token():
    model = small(include_top=False)
    before = keras.Model(model.input, model.get_layer("tokens").output)
    after = keras.Model(model.input, model.get_layer("positions").output)
    x = images(model)
    token = ops.convert_to_numpy(model.get_layer("class_token").token)
    table = ops.convert_to_numpy(model.get_layer("positions").table)
    tokens = np.concatenate((np.repeat(token, 2, 0), ops.convert_to_numpy(before(x))), 1)
    np.testing.assert_allclose(ops.convert_to_numpy(after(x)), tokens + table, atol=1e-5)


@pytest.mark.parametrize("flavor", ["plain", "squeeze_excite", "ghost"])
def test_drop_path_grows_in_a_line(flavor):
    model = small(depth=3, mlp_ratio=3.0, embed_dim=32, drop_path_rate=0.2, flavor=flavor)
    rates = [model.get_layer(f"encoder_block_{i}").drop_path_rate for i in range(3)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2])


def test_drop_path_of_the_dense_flavour_is_that_of_its_stage():
    model = build_unfilled(network("t2t_vit_dense"), drop_path_rate=0.11)
    blocks = [layer for layer in model.layers if layer.name.startswith("encoder_block")]
    rates = [block.drop_path_rate for block in blocks]
    expected = np.repeat([0, 0.01, 0.02, 0.03], (3, 6, 6, 4))
    np.testing.assert_allclose(rates, expected, atol=1e-12)


def test_initial_values_have_the_published_statistics():
    model = keras_t2t.T2TViT16Ghost(
        input_shape=(64, 64, 3), depth=4, token_mixer="transformer", dropout_rate=0.1
    )
    for variable in model.trainable_variables:
        value, path = ops.convert_to_numpy(variable), variable.path
        if path.endswith(("bias", "beta")):
            assert (value == 0).all(), path
        elif path.endswith("gamma"):
            assert (value == 1).all(), path
        elif "cheap" in path:
            # U(-1, 1): the variance is 1/3.
            assert np.abs(value).max() <= 1 and abs(value.std() - 3**-0.5) < 0.08, path
        else:
            # Five standard errors of the mean and of the standard deviation.
            error = 5 * 0.02 / value.size**0.5
            assert abs(value.mean()) < error and abs(value.std() - 0.02) < error, path
            assert np.abs(value).max() > 0.04, path  # Not cut at two standard deviations.


def test_seed_repeats_construction():
    first, again, other = (small(seed=seed) for seed in (3, 3, 4))
    assert any(
        (ops.convert_to_numpy(a) != ops.convert_to_numpy(b)).any()
        for a, b in zip(first.weights, other.weights, strict=True)
    )
    for a, b in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))


@pytest.mark.parametrize("seed", [None, 3])
def test_a_training_step_repeats(seed):
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        model = small(seed=seed, dropout_rate=0.1, drop_path_rate=0.5, attention_dropout_rate=0.1)
        model.compile("sgd", "sparse_categorical_crossentropy")
        x = images(model, batch=8)
        model.train_on_batch(x, np.arange(8) % 5)
        weights.append([ops.convert_to_numpy(v) for v in model.trainable_variables])
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_head_computes_in_float32_under_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = small()
    assert model.output.dtype == "float32"
    assert model.get_layer("encoder_block_0").compute_dtype == policy.removeprefix("mixed_")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"input_shape": (None, 28, 1)}, "three positive ints"),
        ({"input_shape": (28, 28)}, "three positive ints"),
        ({"input_shape": 28}, "three positive ints"),
        ({"input_shape": (2, 224, 3), "soft_splits": ((7, 4, 2), (5, 2, 1))}, "too small"),
        ({"input_shape": (2, 2, 1), "soft_splits": ((7, 4, 2),)}, r"Received: input_shape=\(2, 2"),
        ({"input_tensor": np.zeros((1, 28, 28, 1))}, "`input_tensor` must be a Keras tensor"),
        ({"soft_splits": ()}, "at least one"),
        ({"soft_splits": (7, 4, 2)}, "sequence of"),
        ({"soft_splits": ((7, 4),)}, "sequence of"),
        ({"soft_splits": ((7, 0, 2),)}, r"soft_splits\[0\] stride"),
        ({"token_mixer": "mlp"}, "token_mixer='mlp'"),
        ({"token_dim": 0}, "dim=0"),
        ({"embed_dim": 25}, "embed_dim=25, num_heads=2"),
        ({"depth": 0}, "depth=0"),
        ({"depth": (2, 2)}, r"depth=\(2, 2\)"),
        ({"flavor": "dense", "depth": 3}, "depth=3"),
        ({"flavor": "wide"}, "flavor='wide'"),
        ({"pooling": "cls"}, "pooling='cls'"),
        ({"classes": 0}, "classes=0"),
        ({"drop_path_rate": 1}, "drop_path_rate=1"),
        ({"dropout_rate": "much"}, "dropout_rate='much'"),
        ({"preprocessing": 5}, "preprocessing=5"),
        ({"preprocessing": "mnist"}, "preprocessing='mnist'"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match="channels_last"):
        small()


def test_unknown_variant():
    with pytest.raises(ValueError, match="t2t_vit_14_wide.*Received: variant='t2t_vit_15'"):
        keras_t2t.create("t2t_vit_15")
    with pytest.raises(ValueError, match="Received: variant=\\['t2t_vit_7'\\]"):
        keras_t2t.create(["t2t_vit_7"])


def test_unknown_argument_of_a_factory():
    with pytest.raises(TypeError, match="patch_size"):
        keras_t2t.T2TViT14(patch_size=16)
