"""What holds for every public layer: shapes, config, saving, policies, seeds."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_t2t import layers

TOKENS, GRID = (None, 9, 12), (None, 6, 8, 3)
# One or more of each public layer, not at its defaults, and the shape of its input.
CASES = {
    "SoftSplit": (lambda **k: layers.SoftSplit(3, 2, 1, **k), GRID),
    "Restructurization": (lambda **k: layers.Restructurization((3, 3), **k), TOKENS),
    "SelfAttention": (
        lambda **k: layers.SelfAttention(3, qkv_bias=True, qk_scale=0.3, squeeze_excite=False, **k),
        TOKENS,
    ),
    "SelfAttention, dim": (
        lambda **k: layers.SelfAttention(1, 8, value_shortcut=True, **k),
        TOKENS,
    ),
    "PerformerAttention": (lambda **k: layers.PerformerAttention(8, 0.75, **k), TOKENS),
    "SqueezeExcite": (lambda **k: layers.SqueezeExcite(4, **k), TOKENS),
    "MLP": (lambda **k: layers.MLP(20, **k), TOKENS),
    "GhostAttention": (lambda **k: layers.GhostAttention(2, **k), TOKENS),
    "GhostMLP": (lambda **k: layers.GhostMLP(36, **k), TOKENS),
    "T2TBlock": (lambda **k: layers.T2TBlock(8, **k), GRID),
    "T2TBlock, transformer": (
        lambda **k: layers.T2TBlock(8, "transformer", mlp_ratio=2.0, **k),
        TOKENS,
    ),
    "EncoderBlock": (lambda **k: layers.EncoderBlock(3, 2.0, qkv_bias=True, **k), TOKENS),
    "EncoderBlock, ghost": (lambda **k: layers.EncoderBlock(2, flavor="ghost", **k), TOKENS),
    "EncoderBlock, excite": (
        lambda **k: layers.EncoderBlock(2, flavor="squeeze_excite", **k),
        (None, 9, 32),
    ),
    "DenseEncoderBlock": (lambda **k: layers.DenseEncoderBlock(2, growth_rate=5, **k), TOKENS),
    "Dense": (lambda **k: layers.Dense(2, class_names=["ant", "bee"], **k), TOKENS),
    "Encoder": (lambda **k: layers.Encoder(2, 3, mlp_ratio=2.0, **k), TOKENS),
    "ClassToken": (lambda **k: layers.ClassToken(**k), TOKENS),
    "SinusoidPositions": (lambda **k: layers.SinusoidPositions(**k), TOKENS),
    "TokenPooling": (lambda **k: layers.TokenPooling("token", **k), TOKENS),
    "TokenPooling, avg": (lambda **k: layers.TokenPooling("avg", **k), TOKENS),
    "TokenPooling, max": (lambda **k: layers.TokenPooling("max", **k), TOKENS),
}
# Layers that draw weights take a seed; those that drop take rates as well.
SEEDED = [name for name, (make, _) in CASES.items() if "seed" in make().get_config()]
RATES = ("dropout_rate", "attention_dropout_rate", "hidden_dropout_rate", "drop_path_rate")


def example(shape, dtype="float32"):
    return np.random.default_rng(0).normal(size=(2, *shape[1:])).astype(dtype)


def test_every_public_layer_is_here():
    assert {name.split(",")[0] for name in CASES} == set(layers.__all__)


@pytest.mark.parametrize("name", CASES)
def test_output_shape(name):
    make, shape = CASES[name]
    layer = make()
    x = example(shape)
    assert layer.compute_output_shape(x.shape) == layer(x).shape
    assert layer.compute_output_shape(shape)[0] is None


@pytest.mark.parametrize("name", CASES)
def test_another_rank_is_refused(name):
    make, shape = CASES[name]
    ranks = {"MLP": range(2, 6), "Dense": range(2, 6), "T2TBlock": (3, 4)}.get(
        name.split(",")[0], (len(shape),)
    )
    built = make()
    built(example(shape))
    for rank in set(range(6)) - set(ranks):
        x = np.ones((1, 6, 6, 6, 6)[:rank], "float32")
        for layer in (make(), built):
            with pytest.raises(ValueError, match="ndim=") as told:
                layer(x)
            assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", CASES)
def test_config_is_complete(name):
    make, _ = CASES[name]
    layer = make()
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    arguments = {
        argument
        for base in type(layer).__mro__
        if "__init__" in vars(base) and base.__module__.startswith("keras_t2t")
        for argument in base.__init__.__code__.co_varnames[1 : base.__init__.__code__.co_argcount]
    }
    assert arguments <= set(layer.get_config())


@pytest.mark.parametrize("name", CASES)
def test_keras_file_round_trip(name, tmp_path):
    make, shape = CASES[name]
    x = example(shape)
    inputs = keras.Input(shape[1:])
    model = keras.Model(inputs, make()(inputs))
    for variable in model.weights:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_policies(name, policy):
    make, shape = CASES[name]
    layer = make(dtype=policy)
    y = layer(example(shape))
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    assert np.isfinite(ops.convert_to_numpy(ops.cast(y, "float32"))).all()
    for variable in layer.trainable_variables:
        assert variable.dtype == layer.variable_dtype


@pytest.mark.parametrize("name", SEEDED)
def test_a_seed_repeats_weights_and_dropout(name):
    make, shape = CASES[name]
    config = make().get_config()
    rates = {rate: 0.4 for rate in RATES if rate in config}
    cls = type(make())
    x = example(shape)

    def outputs(seed):
        layer = cls.from_config({**config, **rates, "seed": seed})
        layer.build(shape)
        weights = [ops.convert_to_numpy(v) for v in layer.trainable_variables]
        # Initial values are near zero; larger ones let the dropout show.
        for variable in layer.trainable_variables:
            variable.assign(np.random.default_rng(3).normal(size=variable.shape))
        arguments = {"training": True} if rates else {}
        return weights, ops.convert_to_numpy(layer(x, **arguments))

    (weights, y), (again, y_again) = outputs(5), outputs(5)
    for first, second in zip(weights, again, strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(y, y_again)
    other, y_other = outputs(6)
    drawn = [i for i, w in enumerate(weights) if w.std() > 0]
    assert all((weights[i] != other[i]).any() for i in drawn)
    # Parts of equal shape must not start equal.
    for i in drawn:
        for j in drawn:
            if i < j and weights[i].shape == weights[j].shape:
                assert (weights[i] != weights[j]).any()
    if rates:
        assert (y != y_other).any()


@pytest.mark.parametrize("name", SEEDED)
def test_the_global_seed_repeats_weights(name):
    make, shape = CASES[name]
    drawn = []
    for _ in range(2):
        keras.utils.set_random_seed(11)
        layer = make()
        layer.build(shape)
        drawn.append([ops.convert_to_numpy(v) for v in layer.trainable_variables])
    for first, second in zip(*drawn, strict=True):
        np.testing.assert_array_equal(first, second)
