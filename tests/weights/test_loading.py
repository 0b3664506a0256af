"""load_checkpoint on mappings: all or nothing, other sizes, other heads, and the way back."""

import keras
import numpy as np
import pytest
import torch
from keras import ops

import keras_t2t
from keras_t2t.weights.building import build_unfilled, network
from keras_t2t.weights.loading import copy_layers, published_state_dict
from keras_t2t.weights.positions import resize_positions
from tests import parity

UNTESTED = "84.2_T2T_ViT_24.pth.tar"


@pytest.fixture(scope="module")
def arrays():
    return parity.reference_state_dict("t2t_vit_7")


def model(**arguments):
    return keras_t2t.T2TViT7(**{"input_shape": (224, 224, 3), "seed": 1, **arguments})


def snapshot(of):
    return [ops.convert_to_numpy(variable) for variable in of.weights]


@pytest.mark.parametrize("variant", parity.EVERY_BACKEND_VARIANTS)
def test_the_way_back_is_bit_exact(variant):
    fresh = build_unfilled(network(variant))
    source = parity.reference_state_dict(variant)
    keras_t2t.load_checkpoint(fresh, source)
    back = published_state_dict(fresh)
    assert back.keys() == source.keys()
    for key, array in source.items():
        np.testing.assert_array_equal(back[key], array, err_msg=key)


def test_everything_that_does_not_fit_is_named_and_nothing_is_loaded(arrays):
    fresh = model()
    before = snapshot(fresh)
    broken = {key: value for key, value in arrays.items() if key != "blocks.3.mlp.fc1.bias"}
    broken["blocks.7.norm1.weight"] = arrays["norm.weight"]
    broken["norm.bias"] = np.zeros(255, "float32")
    with pytest.raises(ValueError) as error:
        keras_t2t.load_checkpoint(fresh, broken)
    for line in (
        "missing: blocks.3.mlp.fc1.bias",
        "unexpected: blocks.7.norm1.weight",
        "norm.bias: expected shape (256,), received (255,)",
    ):
        assert line in str(error.value)
    for old, new in zip(before, snapshot(fresh), strict=True):
        np.testing.assert_array_equal(old, new)


def test_another_number_of_classes(arrays):
    fresh = model(classes=10)
    with pytest.raises(ValueError, match=r"head.weight: expected shape \(10, 256\)[^\n]*\n.*skip"):
        keras_t2t.load_checkpoint(fresh, arrays)
    head = ops.convert_to_numpy(fresh.get_layer("head").kernel)
    keras_t2t.load_checkpoint(fresh, arrays, skip_head=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(fresh.get_layer("head").kernel), head)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(fresh.get_layer("norm").gamma), arrays["norm.weight"]
    )


def test_auxiliary_and_needless_heads_are_left_out_and_reported(arrays, caplog):
    extra = {
        **arrays,
        "aux_head.weight": np.zeros((1000, 256), "float32"),
    }
    with caplog.at_level("INFO", logger="keras_t2t"):
        keras_t2t.load_checkpoint(model(include_top=False), extra)
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.message == ("Left out of the mapping: head.weight, head.bias, aux_head.weight")


def test_the_state_dict_does_not_train_along(arrays):
    fresh = model()
    keras_t2t.load_checkpoint(fresh, arrays)
    state = published_state_dict(fresh)
    fresh.get_layer("norm").gamma.assign(np.zeros(256))
    np.testing.assert_array_equal(state["norm.weight"], arrays["norm.weight"])


def test_a_quantised_model_has_no_published_weights():
    quantised = keras_t2t.T2TViT((32, 32, 3), token_dim=8, embed_dim=16, depth=1, num_heads=2)
    quantised.get_layer("head").quantize("int8")
    with pytest.raises(ValueError, match="quantised, .*: head.weight is int8"):
        published_state_dict(quantised)


def test_positions_of_another_size_are_resized_as_published():
    table = parity.reference_state_dict("t2t_vit_7")["pos_embed"]
    resized = resize_positions(table, (24, 24))
    assert resized.shape == (1, 577, 256)
    np.testing.assert_allclose(
        resized[:, :, ::16], parity.expected("resize_pos_embed/14_to_24"), atol=5e-6
    )


@pytest.mark.parametrize("grid", [(24, 24), (10, 17), (7, 7)])
def test_resizing_equals_torch(grid):
    table = np.random.default_rng(0).normal(size=(1, 197, 8)).astype("float32")
    patches = torch.from_numpy(table[:, 1:]).reshape(1, 14, 14, 8).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(
        patches, size=grid, mode="bicubic", align_corners=False
    )
    resized = resize_positions(table, grid)
    np.testing.assert_array_equal(resized[:, :1], table[:, :1])
    np.testing.assert_allclose(
        resized[0, 1:].reshape(*grid, 8), expected[0].permute(1, 2, 0).numpy(), atol=1e-5
    )


def test_another_image_size(arrays):
    fresh = model(input_shape=(96, 160, 3))
    keras_t2t.load_checkpoint(fresh, arrays)
    table = ops.convert_to_numpy(fresh.get_layer("positions").table)
    np.testing.assert_array_equal(table, resize_positions(arrays["pos_embed"], (6, 10)))


def test_resizing_from_a_grid_that_is_no_square():
    table = np.random.default_rng(0).normal(size=(1, 61, 8)).astype("float32")
    patches = torch.from_numpy(table[:, 1:]).reshape(1, 6, 10, 8).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(
        patches, size=(14, 7), mode="bicubic", align_corners=False
    )
    resized = resize_positions(table, (14, 7), (6, 10))
    np.testing.assert_allclose(
        resized[0, 1:].reshape(14, 7, 8), expected[0].permute(1, 2, 0).numpy(), atol=1e-5
    )
    with pytest.raises(ValueError, match="expected positions of a 6 x 9 grid .* received 61 rows"):
        resize_positions(table, (14, 7), (6, 9))


def test_positions_that_fill_no_square():
    fresh = model(input_shape=(64, 64, 3))
    arrays = published_state_dict(fresh)
    arrays["pos_embed"] = np.zeros((1, 12, 256), "float32")
    with pytest.raises(ValueError, match="pos_embed: expected positions of a square grid"):
        keras_t2t.load_checkpoint(fresh, arrays)


@pytest.mark.parametrize("token_mixer", ["convolution", "patch"])
def test_models_without_published_checkpoints(token_mixer, arrays):
    with pytest.raises(ValueError, match="token_mixer='performer' or 'transformer'"):
        keras_t2t.load_checkpoint(model(token_mixer=token_mixer), arrays)


def test_another_model(arrays):
    inputs = keras.Input((4,))
    with pytest.raises(ValueError, match="must be a T2T-ViT"):
        keras_t2t.load_checkpoint(keras.Model(inputs, keras.layers.Dense(2)(inputs)), arrays)


def test_a_mapping_of_something_else_changes_nothing(arrays):
    fresh = model()
    before = snapshot(fresh)
    for key, value in {
        "norm.weight": np.array(["x"] * 256),
        "norm.bias": np.array([None] * 256),
        "head.bias": np.zeros(1000, "complex64"),
    }.items():
        with pytest.raises(ValueError, match=f"left untouched:\n  {key}: .* holds dtype"):
            keras_t2t.load_checkpoint(fresh, {**arrays, key: value})
    for old, new in zip(before, snapshot(fresh), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layer: layer.quantize("int8"), "quantised, .*: head.weight is int8"),
        (lambda layer: layer.enable_lora(2), "head.weight is quantised or has LoRA"),
    ],
    ids=["int8", "lora"],
)
def test_a_model_that_cannot_take_them_all_takes_none(arrays, change, message):
    changed = model()
    change(changed.get_layer("head"))
    before = snapshot(changed)
    with pytest.raises(ValueError, match=message):
        keras_t2t.load_checkpoint(changed, arrays)
    for old, new in zip(before, snapshot(changed), strict=True):
        np.testing.assert_array_equal(old, new)
    keras_t2t.load_checkpoint(changed, arrays, skip_head=True)


@pytest.mark.parametrize("name", ["m7.keras", "m7.weights.h5"])
def test_files_of_keras_are_no_checkpoints(name):
    with pytest.raises(ValueError, match=f"{name} is a file of Keras, not a checkpoint"):
        keras_t2t.load_checkpoint(model(), name)


def test_extras_of_the_untested_file_are_left_out_and_reported(arrays, tmp_path, caplog):
    extra = {**arrays, "return_dense.weight": np.zeros(3, "float32")}
    np.savez(tmp_path / "84.2_T2T_ViT_24.npz", **extra)
    with pytest.raises(ValueError, match="unexpected: return_dense.weight"):
        keras_t2t.load_checkpoint(model(), tmp_path / "84.2_T2T_ViT_24.npz")
    torch.save({key: torch.tensor(array) for key, array in extra.items()}, tmp_path / UNTESTED)
    with caplog.at_level("INFO", logger="keras_t2t"):
        keras_t2t.load_checkpoint(model(), tmp_path / UNTESTED)
    assert [record.message for record in caplog.records] == [
        f"Left out of {tmp_path / UNTESTED}: return_dense.weight"
    ]


@pytest.mark.parametrize("token_mixer", ["performer", "convolution"])
def test_all_but_the_head_of_a_keras_file(token_mixer, tmp_path):
    small = {"token_dim": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    small |= {"input_shape": (32, 32, 3), "token_mixer": token_mixer}
    source, target = keras_t2t.T2TViT(classes=3, **small), keras_t2t.T2TViT(classes=5, **small)
    source.save(tmp_path / "own.keras")
    head = ops.convert_to_numpy(target.get_layer("head").kernel)
    copy_layers(tmp_path / "own.keras", target)
    for ours, theirs in zip(target.weights[:-2], source.weights[:-2], strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs))
    np.testing.assert_array_equal(ops.convert_to_numpy(target.get_layer("head").kernel), head)
    other = keras_t2t.T2TViT(**{**small, "depth": 2})
    before = snapshot(other)
    with pytest.raises(ValueError, match="own.keras: is not of this arch.* 'encoder_block_1' dif"):
        copy_layers(tmp_path / "own.keras", other)
    for old, new in zip(before, snapshot(other), strict=True):
        np.testing.assert_array_equal(old, new)
