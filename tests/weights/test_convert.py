"""`keras-t2t convert`: to Keras and back to PyTorch, bit for bit, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import parity
import pytest
import sklearn.datasets
from keras import ops

import keras_t2t
from keras_t2t.cli import main, open_model
from keras_t2t.models.variants import VARIANTS
from keras_t2t.weights.checkpoint import read_checkpoint, write_checkpoint
from keras_t2t.weights.convert import infer_variant
from keras_t2t.weights.pretrained import SUFFIXES

torch = pytest.importorskip("torch")

PHOTO = Path(sklearn.datasets.__file__).parent / "images" / "china.jpg"


@pytest.fixture
def published(content, tmp_path):
    path = tmp_path / "71.7_T2T_ViT_7.pth.tar"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_is_bit_exact(published, state, tmp_path, suffix):
    there, back = tmp_path / f"there{suffix}", tmp_path / "back.pth"
    model = keras_t2t.convert(published, there)
    assert model.name == "t2t_vit_7"
    keras_t2t.convert(there, back)
    # Plain PyTorch: the published keys in their order, the shapes and every bit.
    loaded = torch.load(back, weights_only=True)
    assert list(loaded) == list(state)
    for key, tensor in loaded.items():
        assert tensor.dtype == torch.float32
        assert tensor.numpy().tobytes() == state[key].tobytes(), key
    assert {path.name for path in tmp_path.iterdir()} == {published.name, there.name, back.name}


def test_what_was_fine_tuned_goes_back(published, tmp_path):
    """To another number of classes, at another size and with other weights."""
    model = keras_t2t.T2TViT7(
        weights=published, input_shape=(64, 96, 3), classes=5, skip_head=True, drop_path_rate=0.1
    )
    model.get_layer("norm").gamma.assign(np.arange(256.0))
    model.save(tmp_path / "tuned.keras")
    keras_t2t.convert(tmp_path / "tuned.keras", tmp_path / "tuned.safetensors")
    arrays = read_checkpoint(tmp_path / "tuned.safetensors")
    assert arrays["head.weight"].shape == (5, 256)
    assert arrays["pos_embed"].shape == (1, 1 + 4 * 6, 256)
    head = ops.convert_to_numpy(model.get_layer("head").kernel)
    np.testing.assert_array_equal(arrays["head.weight"], head.T)
    np.testing.assert_array_equal(arrays["norm.weight"], np.arange(256))


@pytest.mark.parametrize("variant", parity.VARIANTS)
def test_the_variant_shows_in_the_keys(variant):
    shapes = parity.SPEC["variants"][variant]["keys"]
    arrays = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    # Heads are counted in no shape.
    expected = "t2t_vit_14" if variant == "t2t_vit_14_resnext" else variant
    assert infer_variant(arrays) == expected
    assert list(VARIANTS).index("t2t_vit_14") < list(VARIANTS).index("t2t_vit_14_resnext")


def test_variant_where_nothing_tells(state, tmp_path):
    other = {key: array for key, array in state.items() if not key.startswith("blocks.6.")}
    path = write_checkpoint(tmp_path / "six.npz", other)
    with pytest.raises(ValueError, match=r"six.npz does not tell its variant. Expected variant"):
        keras_t2t.convert(path, tmp_path / "x.keras")
    with pytest.raises(ValueError, match=r"does not fit the model 't2t_vit_7'.*\n.*missing: blo"):
        keras_t2t.convert(path, tmp_path / "x.keras", variant="t2t_vit_7")
    with pytest.raises(ValueError, match="`variant` must be one of t2t_vit_7, "):
        keras_t2t.convert(path, tmp_path / "x.keras", variant="t2t_vit_15")

    small = keras_t2t.T2TViT7(input_shape=(32, 32, 3))
    small.save_weights(tmp_path / "small.weights.h5")
    with pytest.raises(ValueError, match=r"small.weights.h5 does not tell its variant"):
        keras_t2t.convert(tmp_path / "small.weights.h5", tmp_path / "x.npz")
    keras_t2t.convert(tmp_path / "small.weights.h5", tmp_path / "x.npz", variant="t2t_vit_7")
    found, expected = read_checkpoint(tmp_path / "x.npz"), keras_t2t.published_state_dict(small)
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_without_a_head(state, tmp_path):
    headless = {key: array for key, array in state.items() if not key.startswith("head.")}
    source = write_checkpoint(tmp_path / "headless.npz", headless)
    model = keras_t2t.convert(source, tmp_path / "headless.weights.h5")
    assert model.output_shape == (None, 197, 256)
    keras_t2t.convert(tmp_path / "headless.weights.h5", tmp_path / "back.npz")
    assert read_checkpoint(tmp_path / "back.npz").keys() == headless.keys()


def test_preprocessing_comes_along(state, tmp_path):
    source = write_checkpoint(tmp_path / "cifar10_t2t-vit_14_98.3.pth", state)
    model = keras_t2t.convert(source, tmp_path / "x.weights.h5")
    assert keras_t2t.model_preprocessing(model) == keras_t2t.model_preprocessing("cifar10")
    model = keras_t2t.convert(tmp_path / "x.weights.h5", tmp_path / "x.keras")
    assert keras_t2t.model_preprocessing(model) == keras_t2t.model_preprocessing("cifar10")


def test_commands_end_to_end(server, published, predict, tmp_path, capsys):
    """Convert and predict; from the converted file, and from one that is fetched."""
    target = tmp_path / "model.keras"
    assert main(["convert", str(published), str(target)]) == 0
    parameters = parity.SPEC["variants"]["t2t_vit_7"]["parameters"]
    assert capsys.readouterr().out == f"{target}: t2t_vit_7, {parameters:,} parameters\n"

    image = keras_t2t.model_preprocessing("imagenet")(PHOTO)[None]
    logits = predict(keras_t2t.T2TViT7(weights=published), image)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    expected = keras_t2t.decode_predictions(probabilities)[0]
    for model in (str(target), "t2t_vit_7"):
        assert main(["predict", str(PHOTO), "--model", model, "--json"]) == 0
        lines = capsys.readouterr().out.splitlines()
        # The progress of the download comes first.
        (result,) = (json.loads(line) for line in lines if line.startswith("{"))
        assert [line["name"] for line in result["predictions"]] == [name for _, name, _ in expected]
        np.testing.assert_allclose(
            [line["probability"] for line in result["predictions"]],
            [probability for _, _, probability in expected],
            rtol=1e-4,
        )
    assert len(server.requests) == 1


def test_model_of_a_checkpoint(published, state):
    model = open_model(str(published))
    found = keras_t2t.published_state_dict(model)
    assert all(np.array_equal(found[key], state[key]) for key in state)


def test_command_refuses(published, tmp_path, capsys):
    target = tmp_path / "precious.npz"
    target.write_text("precious")
    cases = {
        f"{target} exists. Pass --force to replace it.": [published, target],
        "`destination` must end in .pth, ": [published, tmp_path / "x.onnx"],
        "`source` must end in .pth, ": [tmp_path / "x.onnx", tmp_path / "x.npz"],
        "There is no checkpoint file": [tmp_path / "x.pth", tmp_path / "x.npz"],
        "There is no folder": [published, tmp_path / "none" / "x.npz"],
        "`variant` must be one of": [published, tmp_path / "x.npz", "--variant", "t2t"],
    }
    for message, arguments in cases.items():
        assert main(["convert", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert message in err and err.count("\n") == 1 and out == ""
    assert target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {published.name, target.name}
    assert main(["convert", str(published), str(target), "--force"]) == 0
    assert read_checkpoint(target).keys() == parity.SPEC["variants"]["t2t_vit_7"]["keys"].keys()
