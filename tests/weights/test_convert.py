"""`keras-t2t convert`: to Keras and back to PyTorch, bit for bit, and what it refuses."""

import errno
import json
import os
import resource
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
import sklearn.datasets
from keras import ops

import keras_t2t
from keras_t2t.commands.main import main
from keras_t2t.commands.models import open_model
from keras_t2t.files import replacing
from keras_t2t.models.variants import VARIANTS
from keras_t2t.weights.checkpoint import NOTES, read_checkpoint, write_checkpoint
from keras_t2t.weights.notes import Notes
from keras_t2t.weights.pretrained import read_notes
from keras_t2t.weights.published import SUFFIXES
from keras_t2t.weights.variant import infer_variant, published_variant
from tests import parity
from tests.fixtures.v010 import write as v010

torch = pytest.importorskip("torch")

# How arrays get into a model is tested on JAX in test_loading.py and test_pretrained.py.
pytestmark = [pytest.mark.slow, pytest.mark.above_backends]

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
    with pytest.raises(ValueError, match=r"six.npz is of no published variant.*load_checkpoint"):
        keras_t2t.convert(path, tmp_path / "x.keras")
    with pytest.raises(ValueError, match=r"does not fit the model 't2t_vit_7'.*\n.*missing: blo"):
        keras_t2t.convert(path, tmp_path / "x.keras", variant="t2t_vit_7")
    with pytest.raises(ValueError, match="`variant` must be one of 't2t_vit_7', "):
        keras_t2t.convert(path, tmp_path / "x.keras", variant="t2t_vit_15")

    small = keras_t2t.T2TViT7(input_shape=(32, 32, 3))
    small.save_weights(tmp_path / "small.weights.h5")
    with pytest.raises(
        ValueError, match=r"small.weights.h5 does not tell its variant. Pass `variant`"
    ):
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
        # Without the progress of the download, which goes to stderr.
        (result,) = map(json.loads, capsys.readouterr().out.splitlines())
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
        "DESTINATION must end in .pth, ": [published, tmp_path / "x.onnx"],
        "SOURCE must end in .pth, ": [tmp_path / "x.onnx", tmp_path / "x.npz"],
        f"There is no file {tmp_path / 'x.pth'}": [tmp_path / "x.pth", tmp_path / "x.npz"],
        "There is no folder": [published, tmp_path / "none" / "x.npz"],
        "--variant must be one of": [published, tmp_path / "x.npz", "--variant", "t2t"],
    }
    for message, arguments in cases.items():
        assert main(["convert", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert message in err and err.count("\n") == 1 and out == ""
    assert target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {published.name, target.name}
    assert main(["convert", str(published), str(target), "--force"]) == 0
    assert read_checkpoint(target).keys() == parity.SPEC["variants"]["t2t_vit_7"]["keys"].keys()


def seven(**arguments):
    return keras_t2t.T2TViT7(**{"input_shape": (32, 32, 3), "classes": 5, **arguments})


def with_own_head(pooling, name):
    body = seven(include_top=False, pooling=pooling)
    return keras.Model(body.input, keras.layers.Dense(5, name=name)(body.output))


UNREADABLE = {
    "own head": (
        lambda: with_own_head("token", "classes"),
        "it has Dense classes where t2t_vit_7 has Dense head",
    ),
    "average": (
        lambda: with_own_head("avg", "head"),
        "it has mode=avg of token_pooling where t2t_vit_7 has mode=token of token_pooling",
    ),
    "no head": (
        lambda: seven(include_top=False, pooling="max"),
        "it has mode=max of token_pooling where t2t_vit_7 has mode=token of token_pooling",
    ),
    "heads": (
        lambda: seven(num_heads=8),
        "it has num_heads=8 of encoder_block_0 where t2t_vit_7 has num_heads=4 of encoder_block_0",
    ),
    "scale": (lambda: seven(qk_scale=0.5), "it has qk_scale=0.5 of encoder_block_0 where"),
    "soft splits": (
        lambda: seven(soft_splits=((3, 2, 1), (3, 1, 1), (3, 2, 1))),
        r"it has kernel_size=\(3, 3\) of soft_split_0 where",
    ),
    "mlp": (
        lambda: seven(mlp_ratio=3.0),
        r"it has blocks.0.mlp.fc1.weight of shape \(768, 256\) where",
    ),
    "bias": (lambda: seven(qkv_bias=True), "it has blocks.0.attn.qkv.bias of shape .* where t2t_v"),
    "depth": (lambda: seven(depth=5), "none has its depth, width and kinds of layers"),
    "sigmoid": (
        lambda: seven(classifier_activation="sigmoid"),
        "it has activation=sigmoid where t2t_vit_7 has logits or their softmax",
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_model_that_is_no_published_variant(kind):
    build, message = UNREADABLE[kind]
    with pytest.raises(ValueError, match=f"{message}.*in .keras keeps everything"):
        published_variant(build())


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    source = tmp_path / "own.keras"
    with_own_head("avg", "head").save(source)
    for name in ("x.pth", "x.weights.h5"):
        with pytest.raises(ValueError, match="it has mode=avg of token_pooling"):
            keras_t2t.convert(source, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["own.keras"]
    keras_t2t.convert(source, tmp_path / "again.keras")


def test_what_weights_do_not_tell_but_need_not(tmp_path):
    seven(classifier_activation=None, dropout_rate=0.1, preprocessing=None).save(
        tmp_path / "own.keras"
    )
    assert keras_t2t.convert(tmp_path / "own.keras", tmp_path / "x.weights.h5").output_shape[1] == 5
    assert keras_t2t.convert(tmp_path / "x.weights.h5", tmp_path / "x.pth").output_shape[1] == 5


def test_a_head_on_an_average_is_not_taken_for_the_published_one(tmp_path):
    with_own_head("avg", "head").save(tmp_path / "own.keras")
    with pytest.raises(ValueError, match=r"own.keras holds no head. Pass include_top=False"):
        keras_t2t.T2TViT7(weights=tmp_path / "own.keras")
    keras_t2t.T2TViT7(weights=tmp_path / "own.keras", include_top=False)


@pytest.mark.parametrize("key", ["head.weight", "head.bias"])
def test_half_a_head_is_no_headless_model(state, tmp_path, key):
    source = write_checkpoint(tmp_path / "half.npz", {k: v for k, v in state.items() if k != key})
    with pytest.raises(ValueError, match=f"missing: {key}"):
        keras_t2t.convert(source, tmp_path / "x.keras")


def test_another_variant_than_the_files(tmp_path):
    seven().save(tmp_path / "own.keras")
    keras_t2t.convert(tmp_path / "own.keras", tmp_path / "own.weights.h5", "t2t_vit_7")
    for name in ("own.keras", "own.weights.h5"):
        with pytest.raises(ValueError, match=f"is t2t_vit_14, but .*{name} is of t2t_vit_7"):
            keras_t2t.convert(tmp_path / name, tmp_path / "x.pth", "t2t_vit_14")


@pytest.mark.tensorflow
def test_safetensors_keep_what_belongs_to_the_weights(tmp_path, caplog):
    """At a size, in a shape and as a variant that the weights themselves do not show."""
    model = keras_t2t.T2TViT14ResNeXt(input_shape=(40, 64, 3), classes=3, preprocessing="cifar10")
    model.save(tmp_path / "own.keras")
    keras_t2t.convert(tmp_path / "own.keras", tmp_path / "own.safetensors")
    assert caplog.messages == []
    again = keras_t2t.convert(tmp_path / "own.safetensors", tmp_path / "again.keras")
    assert again.name == "t2t_vit_14_resnext"
    assert again.input_shape == (None, 40, 64, 3)
    assert keras_t2t.model_preprocessing(again) == keras_t2t.model_preprocessing(model)
    found, expected = map(keras_t2t.published_state_dict, (again, model))
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    keras_t2t.create("t2t_vit_14_resnext", weights=tmp_path / "own.safetensors")
    assert caplog.messages == []

    # The other formats have no room for it, which is told.
    keras_t2t.convert(tmp_path / "own.safetensors", tmp_path / "own.npz")
    assert [message.partition("own.npz ")[2] for message in caplog.messages] == [
        "does not tell its variant: reading it takes t2t_vit_14_resnext",
        "does not tell the size of its images: reading it takes keras_t2t.create with "
        "input_shape=(40, 64, 3)",
    ]


@pytest.mark.parametrize(
    "notes",
    [
        [1],
        {"variant": "t2t"},
        {"input_shape": 3},
        {"preprocessing": {"size": 3}},
        {"class_names": ["ant", 3]},
    ],
)
def test_notes_of_no_use(state, tmp_path, notes):
    path = tmp_path / "own.safetensors"
    path.write_bytes(safetensors.numpy.save(dict(state), {NOTES: json.dumps(notes)}))
    with pytest.raises(ValueError, match="own.safetensors is damaged: its notes cannot be used"):
        keras_t2t.convert(path, tmp_path / "x.npz")


def test_a_guessed_preprocessing_is_told(state, tmp_path, caplog):
    path = write_checkpoint(tmp_path / "own.npz", state)
    keras_t2t.T2TViT7(weights=path, preprocessing="cifar10")
    assert caplog.messages == []
    keras_t2t.T2TViT7(weights=path)
    (message,) = caplog.messages
    assert message.startswith(f"{path} does not tell how its images were prepared: ImageNet's")


def test_weights_of_other_soft_splits(tmp_path):
    splits = ((3, 2, 1), (3, 1, 1), (3, 2, 1))
    model = seven(soft_splits=splits)
    source = write_checkpoint(tmp_path / "own.npz", keras_t2t.published_state_dict(model))
    model.save_weights(tmp_path / "own.weights.h5")
    with pytest.raises(ValueError, match="other soft splits than the published: .* of 27 values"):
        keras_t2t.convert(source, tmp_path / "x.keras")
    with pytest.raises(ValueError, match="other soft splits than the published: .* of 27 values"):
        keras_t2t.convert(tmp_path / "own.weights.h5", tmp_path / "x.keras", "t2t_vit_7")
    for path in (source, tmp_path / "own.weights.h5"):
        keras_t2t.T2TViT7(weights=path, soft_splits=splits, input_shape=(32, 32, 3))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk(published, tmp_path, suffix, capsys):
    """A limit on the size of files stands for it."""
    target = tmp_path / f"x{suffix}"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        assert main(["convert", str(published), str(target)]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    err = capsys.readouterr().err
    assert err.startswith("keras-t2t: error: ") and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [published.name]


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_no_temporary_name_is_told(published, suffix, capsys):
    assert main(["convert", str(published), f"/proc/x{suffix}"]) == 2
    err = capsys.readouterr().err
    assert f"'/proc/x{suffix}'" in err and ".part" not in err


def test_a_folder_is_never_replaced(published, tmp_path, capsys):
    precious = tmp_path / "precious.pth"
    precious.mkdir()
    (precious / "keep.txt").write_text("keep")
    assert main(["convert", str(published), str(precious), "--force"]) == 2
    assert f"{precious} is a folder, which is not replaced" in capsys.readouterr().err
    (precious / "saved_model.pb").write_text("by a file neither")
    assert main(["convert", str(published), str(precious), "--force"]) == 2
    assert f"{precious} is a folder, which is not replaced" in capsys.readouterr().err
    assert (precious / "keep.txt").read_text() == "keep"
    assert {path.name for path in tmp_path.iterdir()} == {published.name, precious.name}


def test_only_a_folder_replaces_a_saved_model(tmp_path, monkeypatch):
    served = tmp_path / "served"
    served.mkdir()
    (served / "saved_model.pb").write_text("old")
    with replacing(served, overwrite=True) as temporary:
        temporary.mkdir()
        (temporary / "saved_model.pb").write_text("new")
    assert (served / "saved_model.pb").read_text() == "new"

    # What fails on the way leaves the old one.
    replace = os.replace

    def fail(source, target):
        if Path(source).name.startswith(".part"):
            raise OSError(errno.EIO, "no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"), replacing(served, overwrite=True) as temporary:
        temporary.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
    assert (served / "saved_model.pb").read_text() == "new"


def test_what_is_left_out_is_printed(state, tmp_path, capsys):
    extra = {**state, "aux_head.weight": np.zeros((5, 256), "float32")}
    source = write_checkpoint(tmp_path / "own.npz", extra)
    assert main(["convert", str(source), str(tmp_path / "x.keras")]) == 0
    err = capsys.readouterr().err.splitlines()
    assert err[0] == f"keras-t2t: note: Left out of {source}: aux_head.weight"
    assert err[1].startswith(f"keras-t2t: note: {source} does not tell how its images were")


@pytest.mark.parametrize("kind", ["cut", "page"])
def test_a_keras_file_that_is_none(kind, tmp_path):
    path = tmp_path / "own.keras"
    seven().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if kind == "cut" else b"<html>")
    with pytest.raises(ValueError, match="cannot be read as a Keras model: it is cut short"):
        keras_t2t.convert(path, tmp_path / "x.pth")


@pytest.mark.parametrize("name", ["x.safetensors", "x.weights.h5"])
def test_class_names_are_noted(tmp_path, name):
    source, path = tmp_path / "own.keras", tmp_path / name
    seven().save(source)
    keras_t2t.convert(source, path)
    assert read_notes(path).class_names is None
    names = ("cat", "dog", "fox", "hen", "owl")
    with pytest.raises(ValueError, match="names of classes must be 5, .* Received: 10"):
        keras_t2t.convert(source, path, overwrite=True, labels="cifar10")
    keras_t2t.convert(source, path, overwrite=True, labels=names)
    assert read_notes(path).class_names == names
    # They go on with the weights, where there is room for them.
    keras_t2t.convert(path, tmp_path / f"again.{name}")
    assert read_notes(tmp_path / f"again.{name}").class_names == names
    assert read_notes(source) == Notes()
    # The model carries them on, and back.
    keras_t2t.convert(path, tmp_path / "named.keras")
    named = keras.saving.load_model(tmp_path / "named.keras")
    assert keras_t2t.model_class_names(named) == names
    keras_t2t.convert(tmp_path / "named.keras", path, overwrite=True)
    assert read_notes(path).class_names == names
    assert keras_t2t.model_class_names(keras_t2t.T2TViT7(weights=path)) == names
    fresh = keras_t2t.T2TViT7(weights=path, classes=5, skip_head=True)
    assert keras_t2t.model_class_names(fresh) is None
    own = keras_t2t.T2TViT7(weights=path, class_names=list("vwxyz"))
    assert keras_t2t.model_class_names(own) == tuple("vwxyz")
    own = keras_t2t.T2TViT7(weights=path, classes=2, skip_head=True, class_names=["v", "w"])
    assert keras_t2t.model_class_names(own) == ("v", "w")


def test_labels_of_a_model_that_0_1_0_saved(tmp_path, capsys):
    """Whose head is Keras' own Dense layer."""
    target, labels = tmp_path / "named.keras", tmp_path / "labels.txt"
    labels.write_text("ant\nbee\ncat\ndog\neel\n")
    for name in ("small", "nested"):
        source = v010.HERE / f"{name}.keras"
        old = keras.saving.load_model(source)
        assert keras_t2t.Predictor(old).classes == [(str(i), str(i)) for i in range(5)]
        command = ["convert", str(source), str(target), "--labels", str(labels), "--force"]
        assert main(command) == 0
        new = keras.saving.load_model(target)
        names = [name for _, name in keras_t2t.Predictor(new).classes]
        assert names == labels.read_text().split()
        assert all(map(np.array_equal, new.get_weights(), old.get_weights()))
    headless = tmp_path / "headless.keras"
    seven(include_top=False, pooling="max").save(headless)
    capsys.readouterr()
    assert main(["convert", str(headless), str(target), "--labels", str(labels), "--force"]) == 2
    assert "whose last layer, 'token_pooling', is no Dense layer" in capsys.readouterr().err
