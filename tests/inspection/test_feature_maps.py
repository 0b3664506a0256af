"""Feature maps, dead channels and the feature pyramid."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_t2t
from keras_t2t.inspection import dead_channels, feature_maps, feature_pyramid
from tests.inspection.small_models import images, small_model

pytestmark = pytest.mark.above_backends


def numpy_of(model, tensor, x):
    return ops.convert_to_numpy(keras.Model(model.input, tensor)(x))


def test_maps_are_the_layers_outputs_on_their_grids():
    model, x = small_model(), images()
    maps = feature_maps(model, x)
    assert {name: value.shape[1:] for name, value in maps.items()} == {
        "soft_split_0": (6, 8, 7 * 7 * 3),
        "t2t_block_0": (6, 8, 8),
        "soft_split_1": (3, 4, 3 * 3 * 8),
        "t2t_block_1": (3, 4, 8),
        "soft_split_2": (2, 2, 3 * 3 * 8),
        "projection": (2, 2, 24),
        "encoder_block_0": (2, 2, 24),
        "encoder_block_1": (2, 2, 24),
    }
    assert list(maps) == [layer.name for layer in model.layers if layer.name in maps]
    # The middle of each 7 x 7 patch is the pixel that it stands on.
    np.testing.assert_array_equal(
        maps["soft_split_0"].reshape(2, 6, 8, 7, 7, 3)[..., 2, 2, :], x[:, ::4, ::4]
    )
    block = numpy_of(model, model.get_layer("encoder_block_1").output, x)
    # Token 0 is the class token; then the patches, row by row.
    np.testing.assert_allclose(maps["encoder_block_1"][:, 1, 0], block[:, 3], atol=1e-6)


def test_every_token_mixer():
    for token_mixer, names in {
        "convolution": ["convolution_0", "convolution_1", "projection"],
        "patch": ["soft_split_0", "projection"],
    }.items():
        maps = feature_maps(
            small_model(token_mixer, input_shape=(32, 32, 3)), images(1, (32, 32, 3))
        )
        assert list(maps) == [*names, "encoder_block_0", "encoder_block_1"]
        assert maps["projection"].shape == maps["encoder_block_1"].shape == (1, 2, 2, 24)


def test_any_functional_model_by_the_names_of_its_layers():
    resnet = keras.applications.ResNet50(
        weights=None, include_top=False, input_shape=(32, 32, 3), pooling=None
    )
    x, layers = images(2, (32, 32, 3)), ["conv1_relu", "conv2_block1_out"]
    maps = feature_maps(resnet, x, layers)
    assert [value.shape for value in maps.values()] == [(2, 16, 16, 64), (2, 8, 8, 256)]
    expected = np.maximum(numpy_of(resnet, resnet.get_layer("conv1_bn").output, x), 0)
    np.testing.assert_allclose(maps["conv1_relu"], expected, atol=1e-6)
    assert [row["channels"] for row in dead_channels(maps).rows] == [64, 256]
    with pytest.raises(ValueError, match="model 'resnet50': expected a model that T2TViT built"):
        feature_maps(resnet, x)


def test_errors_say_what_is_expected():
    model, x = small_model(), images()
    with pytest.raises(ValueError, match="No such layer: encoder_block_9"):
        feature_maps(model, x, ["encoder_block_9"])
    with pytest.raises(ValueError, match=r"but the output of 'head' has the shape \(2, 5\)"):
        feature_maps(model, x, ["head"])


def constructed():
    """Channels: alive, 0, 3, a pattern that no image changes, almost 0, almost 3, alive."""
    rng = np.random.default_rng(0)
    value = rng.normal(size=(6, 4, 5, 7)).astype("float32")
    value[..., 1] = 0
    value[..., 2] = 3.3
    value[..., 3] = value[:1, ..., 3]
    value[..., 4] *= 1e-4
    value[..., 5] = 3.3 + 1e-3 * value[..., 5]
    return value


def test_dead_channels_of_constructed_activations():
    value = constructed()
    dead = dead_channels({"first": value, "second": value[..., [0, 6]]})
    assert dead.kinds["first"].tolist() == [
        *("", "zero", "constant", "fixed", "zero", "constant", ""),
    ]
    assert dead.mask("first").tolist() == [False, True, True, True, True, True, False]
    assert dead.rows == [
        {"layer": "first", "channels": 7, "zero": 2, "constant": 2, "fixed": 1, "dead": 5},
        {"layer": "second", "channels": 2, "zero": 0, "constant": 0, "fixed": 0, "dead": 0},
    ]
    assert dead.table().splitlines() == [
        "layer   channels  zero  constant  fixed  dead  share",
        "first          7     2         2      1     5  71.4%",
        "second         2     0         0      0     0   0.0%",
    ]


def test_dead_channels_tolerance():
    value = constructed()
    exact = dead_channels({"layer": value}, tolerance=0).kinds["layer"].tolist()
    assert exact == ["", "zero", "constant", "fixed", "", "", ""]
    coarse = dead_channels({"layer": value}, tolerance=0.0005).kinds["layer"].tolist()
    assert coarse == ["", "zero", "constant", "fixed", "zero", "", ""]
    # Whether a map is the same for every image, one image cannot tell.
    single = dead_channels({"layer": value[:1]}).kinds["layer"].tolist()
    assert single == ["", "zero", "constant", "", "zero", "constant", ""]
    with pytest.raises(ValueError, match="tolerance: expected at least 0, got -1"):
        dead_channels({"layer": value}, tolerance=-1)


def test_channels_without_weight_are_dead():
    model, x = small_model(), images(4)
    projection = model.get_layer("projection")
    kernel = ops.convert_to_numpy(projection.kernel).copy()
    kernel[:, [3, 8]] = 0
    bias = np.zeros(24, "float32")
    bias[8] = 2
    projection.kernel.assign(kernel)
    projection.bias.assign(bias)
    dead = dead_channels(feature_maps(model, x, ["projection"]))
    kinds = dead.kinds["projection"].tolist()
    assert kinds[3] == "zero" and kinds[8] == "constant"
    assert sum(kind != "" for kind in kinds) == 2


def test_feature_pyramid(tmp_path):
    model, x = small_model(), images()
    pyramid = feature_pyramid(model)
    outputs = {name: ops.convert_to_numpy(value) for name, value in pyramid(x).items()}
    assert {name: value.shape for name, value in outputs.items()} == {
        "stride_4": (2, 6, 8, 8),
        "stride_8": (2, 3, 4, 8),
        "stride_16": (2, 2, 2, 24),
    }
    maps = feature_maps(model, x)
    np.testing.assert_allclose(outputs["stride_4"], maps["t2t_block_0"], atol=1e-5)
    np.testing.assert_allclose(outputs["stride_8"], maps["t2t_block_1"], atol=1e-5)
    last = numpy_of(model, model.get_layer("norm").output, x)
    np.testing.assert_allclose(outputs["stride_16"][:, 1, 0], last[:, 3], atol=1e-5)

    pyramid.save(tmp_path / "pyramid.keras")
    loaded = keras.saving.load_model(tmp_path / "pyramid.keras")
    for name, value in loaded(x).items():
        np.testing.assert_allclose(ops.convert_to_numpy(value), outputs[name], atol=1e-5)


def test_feature_pyramid_of_other_stems():
    assert set(feature_pyramid(small_model("patch", input_shape=(32, 32, 3))).output) == {
        "stride_16"
    }
    convolutions = feature_pyramid(small_model("convolution", include_top=False))
    assert [convolutions.output[f"stride_{n}"].shape[1:3] for n in (4, 8, 16)] == [
        *((6, 8), (3, 4), (2, 2)),
    ]
    uneven = keras_t2t.T2TViT(
        input_shape=(16, 16, 3), soft_splits=(((3, 5), (2, 4), (1, 2)), (3, 2, 1)), depth=1
    )
    assert set(feature_pyramid(uneven).output) == {"stride_2x4", "stride_4x8"}
