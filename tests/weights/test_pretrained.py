"""`weights=`: every published kind of file, from a server on loopback to the published logits."""

import argparse
import dataclasses
import functools
import io
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors

import keras_t2t
from keras_t2t.weights import pretrained
from keras_t2t.weights.building import network
from keras_t2t.weights.checkpoint import write_checkpoint
from keras_t2t.weights.download import DownloadError, cache_folder
from keras_t2t.weights.keras_files import read_weights, write_weights
from keras_t2t.weights.notes import Notes
from keras_t2t.weights.positions import resize_positions
from keras_t2t.weights.published import PUBLISHED, SUFFIXES
from tests import parity
from tests.fixtures.reference_weights import reference_array

pytestmark = [pytest.mark.slow, pytest.mark.above_backends]

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
KEPT = "71.7_T2T_ViT_7.safetensors"


def tensors(arrays, prefix=""):
    return {prefix + key: torch.from_numpy(np.array(array)) for key, array in arrays.items()}


def saved(content, zipped=True):
    """Bytes of a PyTorch file."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.fixture
def assert_published(predict):
    def assert_published(model):
        logits = predict(model, parity.images())
        assert np.abs(logits - parity.expected("t2t_vit_7/logits")).max() < 2e-5

    return assert_published


def assert_equal(found, state):
    """Keys, their order and every number."""
    assert list(found) == list(state)
    assert all(np.array_equal(found[key], state[key]) for key in state)


def training_checkpoint(state, **extra):
    """As timm's CheckpointSaver writes it; the live weights would give other logits."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))])
    return {
        "epoch": 299,
        "arch": "t2t_vit_7",
        "state_dict": tensors({key: array * 0.5 for key, array in state.items()}, "module."),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=5e-4),
        **extra,
        "metric": 71.7,
    }


# What is known or likely of the 15 published files.
KINDS = {
    "training checkpoint": lambda state: saved(
        training_checkpoint(state, state_dict_ema=tensors(state))
    ),
    "average alone": lambda state: saved({"state_dict_ema": tensors(state)}),
    "parallel": lambda state: saved({"state_dict": tensors(state, "module.")}),
    "legacy": lambda state: saved(
        training_checkpoint(state, state_dict_ema=tensors(state)), zipped=False
    ),
    "transfer": lambda state: saved({"net": tensors(state), "acc": 98.3, "epoch": 59}),
    "bare": lambda state: saved(tensors(state)),
    "token labeling": lambda state: saved(
        {
            "state_dict": {
                **tensors(state),
                "aux_head.weight": torch.zeros(1000, 256),
                "aux_head.bias": torch.zeros(1000),
            }
        }
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_published_kinds(kind, server, state, assert_published, caplog):
    server.content = KINDS[kind](state)
    with caplog.at_level("INFO", logger="keras_t2t"):
        model = keras_t2t.T2TViT7(weights="imagenet")
    assert_published(model)
    assert_equal(keras_t2t.published_state_dict(model), state)
    left_out = [f"Left out of {PUBLISHED[0].filename}: aux_head.weight, aux_head.bias"]
    assert caplog.messages == (left_out if kind == "token labeling" else [])


def test_what_was_converted_is_read_from_then_on(server, state, caplog):
    server.content = KINDS["token labeling"](state)
    keras_t2t.T2TViT7(weights="imagenet")
    path = cache_folder() / KEPT
    before = path.stat().st_mtime_ns
    with caplog.at_level("INFO", logger="keras_t2t"):
        again = keras_t2t.T2TViT7(weights="imagenet")
    assert_equal(keras_t2t.published_state_dict(again), state)
    assert len(server.requests) == 1
    assert path.stat().st_mtime_ns == before
    assert caplog.messages == []  # what was left out is told once


def test_half_precision(server, state, predict):
    half = {key: tensor.half() for key, tensor in tensors(state).items()}
    server.content = saved(half)
    model = keras_t2t.T2TViT7(weights="imagenet")
    found = keras_t2t.published_state_dict(model)
    for key, tensor in half.items():
        np.testing.assert_array_equal(found[key], tensor.float().numpy())
    # Rounded weights: 11 bits instead of 24.
    assert (
        np.abs(predict(model, parity.images()) - parity.expected("t2t_vit_7/logits")).max() < 0.02
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_local_files(suffix, state, assert_published, tmp_path):
    path = tmp_path / f"own{suffix}"
    if suffix in (".weights.h5", ".keras"):
        trained = keras_t2t.T2TViT7(drop_path_rate=0.1, dropout_rate=0.1)
        keras_t2t.load_checkpoint(trained, state)
        trained.compile("sgd", "categorical_crossentropy")
        trained.save(path) if suffix == ".keras" else trained.save_weights(path)
    else:
        write_checkpoint(path, state)
    assert_published(keras_t2t.T2TViT7(weights=path))
    assert keras_t2t.T2TViT7(weights=str(path), name="own").name == "own"


WITHOUT_TORCH = """
from tests.missing import missing

with missing(["torch"]):
    import numpy as np, keras_t2t
    from tests import parity
    found = keras_t2t.published_state_dict(keras_t2t.T2TViT7(weights="imagenet"))
    for key, array in parity.reference_state_dict("t2t_vit_7").items():
        np.testing.assert_array_equal(found[key], array)
"""


@pytest.mark.tensorflow  # once is enough
def test_torch_is_needed_once(server, tmp_path):

    # Of the two backends that do without torch, the one that is imported faster.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "jax"}
    child = [sys.executable, "-c", WITHOUT_TORCH]

    failed = subprocess.run(child, env=environment, capture_output=True, text=True)
    assert failed.stderr.splitlines()[-1] == (
        'ModuleNotFoundError: torch is not installed: pip install "keras_t2t[convert]"'
    )
    assert server.requests == []  # not after a long download

    keras_t2t.T2TViT7(weights="imagenet")
    (cache_folder() / PUBLISHED[0].filename).unlink()
    subprocess.run(child, env=environment, check=True)


def test_cifar10(server):
    state = parity.reference_state_dict("t2t_vit_14")
    state["head.weight"] = reference_array("head.weight", (10, 384))
    state["head.bias"] = reference_array("head.bias", (10,))
    server.content = saved({"net": tensors(state)})
    model = keras_t2t.T2TViT14(weights="cifar10")
    assert model.output_shape == (None, 10)
    assert keras_t2t.model_preprocessing(model) == keras_t2t.model_preprocessing("cifar10")
    assert_equal(keras_t2t.published_state_dict(model), state)
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship")
    assert keras_t2t.model_class_names(model) == (*names, "truck")
    # From a cache without names too, as earlier versions left it; but for a fresh head.
    kept = cache_folder() / "cifar10_t2t-vit_14_98.3.safetensors"
    notes = dataclasses.replace(pretrained.read_notes(kept), class_names=None)
    write_checkpoint(kept, state, overwrite=True, notes=notes)
    model = keras_t2t.T2TViT14(weights="cifar10")
    assert keras_t2t.model_class_names(model) == (*names, "truck")
    model = keras_t2t.T2TViT14(weights="cifar10", classes=10, skip_head=True)
    assert keras_t2t.model_class_names(model) is None


def test_imagenet384(server):
    state = parity.reference_state_dict("t2t_vit_14")
    # Not the table that a fresh model has.
    state["pos_embed"] = reference_array("noise", (1, 577, 384))
    server.content = saved(tensors(state))
    model = keras_t2t.T2TViT14(weights="imagenet384")
    assert model.input_shape == (None, 384, 384, 3)
    assert keras_t2t.model_preprocessing(model) == keras_t2t.model_preprocessing("imagenet384")
    table = keras.ops.convert_to_numpy(model.get_layer("positions").table)
    np.testing.assert_array_equal(table, state["pos_embed"])


@pytest.fixture
def own(state, tmp_path):
    """A checkpoint of t2t_vit_7 that has no published file's name."""
    return write_checkpoint(tmp_path / "own.npz", state)


def test_another_size_gets_the_published_positions(own):
    model = keras_t2t.T2TViT7(weights=own, input_shape=(384, 384, 3))
    table = keras.ops.convert_to_numpy(model.get_layer("positions").table)
    published = parity.expected("resize_pos_embed/14_to_24")
    np.testing.assert_allclose(table[:, :, ::16], published, atol=5e-6)
    assert keras_t2t.model_preprocessing(model).height == 384


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".npz"])
def test_a_rectangle(state, tmp_path, suffix):
    wide = keras_t2t.T2TViT7(input_shape=(96, 160, 3))
    keras_t2t.load_checkpoint(wide, state)
    wide.save(tmp_path / "wide.keras")
    path = tmp_path / f"own{suffix}"
    if suffix == ".keras":
        path = tmp_path / "wide.keras"
    else:
        keras_t2t.convert(tmp_path / "wide.keras", path)
    table = resize_positions(state["pos_embed"], (6, 10))
    if suffix == ".npz":
        # 60 patches could lie in many ways.
        with pytest.raises(ValueError, match="does not tell the size of its images. Expected inp"):
            keras_t2t.T2TViT7(weights=path)
        same = keras_t2t.T2TViT7(weights=path, input_shape=(96, 160, 3))
    else:
        same = keras_t2t.T2TViT7(weights=path)
        assert same.input_shape == (None, 96, 160, 3)
        other = keras_t2t.T2TViT7(weights=path, input_shape=(160, 96, 3))
        np.testing.assert_allclose(
            other.get_layer("positions").table, resize_positions(table, (10, 6), (6, 10)), atol=1e-6
        )
    np.testing.assert_array_equal(same.get_layer("positions").table, table)


def test_without_the_head(own, state, caplog):
    with caplog.at_level("INFO", logger="keras_t2t"):
        model = keras_t2t.T2TViT7(weights=own, include_top=False, pooling="token")
    assert caplog.messages[0] == f"Left out of {own}: head.weight, head.bias"
    assert model.output_shape == (None, 256)
    headless = {key: array for key, array in state.items() if not key.startswith("head.")}
    assert_equal(keras_t2t.published_state_dict(model), headless)


def test_another_number_of_classes(own, state):
    with pytest.raises(
        ValueError, match=r"classes=10 does not fit .*npz, which has 1000. Pass ski"
    ):
        keras_t2t.T2TViT7(weights=own, classes=10)
    heads = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = keras_t2t.T2TViT7(weights=own, classes=10, skip_head=True)
        heads.append(keras.ops.convert_to_numpy(model.get_layer("head").kernel))
    assert model.output_shape == (None, 10)
    np.testing.assert_array_equal(*heads)
    assert 0.015 < heads[0].std() < 0.025  # fresh: Normal(0, 0.02)
    found = keras_t2t.published_state_dict(model)
    assert all(np.array_equal(found[k], state[k]) for k in state if not k.startswith("head."))


def test_a_fresh_head_does_not_depend_on_what_is_cached(server):
    heads = []
    for _ in range(2):  # converted, then read
        keras.utils.set_random_seed(3)
        model = keras_t2t.T2TViT7(weights="imagenet", skip_head=True)
        heads.append(keras.ops.convert_to_numpy(model.get_layer("head").kernel))
    np.testing.assert_array_equal(*heads)


def test_files_without_a_head(state, tmp_path):
    headless = {key: array for key, array in state.items() if not key.startswith("head.")}
    path = write_checkpoint(tmp_path / "headless.npz", headless)
    with pytest.raises(ValueError, match=r"headless.npz holds no head. Pass include_top=False, or"):
        keras_t2t.T2TViT7(weights=path)
    assert keras_t2t.T2TViT7(weights=path, include_top=False).output_shape == (None, 197, 256)
    assert keras_t2t.T2TViT7(weights=path, skip_head=True, classes=3).output_shape == (None, 3)


def test_extras_of_the_untested_file_are_left_out(state, tmp_path, caplog):
    path = tmp_path / "84.2_T2T_ViT_24.pth.tar"
    write_checkpoint(path, {**state, "return_dense.weight": np.zeros(3, "float32")})
    with caplog.at_level("INFO", logger="keras_t2t"):
        model = keras_t2t.T2TViT7(weights=path)
    assert caplog.messages == [f"Left out of {path}: return_dense.weight"]
    assert_equal(keras_t2t.published_state_dict(model), state)


def test_another_number_of_channels(own):
    model = keras_t2t.T2TViT7(weights=own, input_shape=(32, 32, 1))
    assert keras_t2t.model_preprocessing(model).mean == pytest.approx((0.449,))


def test_preprocessing_of_a_file(state, tmp_path):
    def of(path):
        return pretrained.read_file(path, network("t2t_vit_7")).notes.preprocessing

    cifar = keras_t2t.model_preprocessing("cifar100")
    # Told by the published name, whatever is in it,
    assert of(write_checkpoint(tmp_path / "cirfar100_t2t-vit-14_88.4.npz", state)) is None
    assert of(write_checkpoint(tmp_path / "cirfar100_t2t-vit-14_88.4.pth", state)) == cifar
    # said,
    model = keras_t2t.T2TViT7(
        weights=tmp_path / "cirfar100_t2t-vit-14_88.4.npz", preprocessing="cifar100"
    )
    assert keras_t2t.model_preprocessing(model) == cifar
    # and carried.
    model.save(tmp_path / "own.keras")
    write_weights(tmp_path / "own.weights.h5", model, Notes.of(model, "t2t_vit_7"))
    for name in ("own.keras", "own.weights.h5"):
        loaded = keras_t2t.T2TViT7(weights=tmp_path / name)
        assert keras_t2t.model_preprocessing(loaded) == cifar


def test_the_policy_does_not_reach_the_cache(server, assert_published):
    keras.config.set_dtype_policy("bfloat16")
    for _ in range(2):
        model = keras_t2t.T2TViT7(weights="imagenet")
        assert model.get_layer("encoder_block_0").variable_dtype == "bfloat16"
    keras.config.set_dtype_policy("float32")
    assert_published(keras_t2t.T2TViT7(weights="imagenet"))
    assert len(server.requests) == 1


def randomise(model):
    """So that every array can be found in a file."""
    for variable in model.weights:
        variable.assign(keras.random.normal(variable.shape))


def damage(path, kind, model):
    content = bytearray(path.read_bytes())
    if kind == "bits":
        bias = keras.ops.convert_to_numpy(model.get_layer("norm").beta)
        content[content.index(bias.tobytes())] ^= 64
    elif kind == "cut":
        del content[len(content) // 2 :]
    elif kind == "empty":
        content.clear()
    elif kind == "page":
        content = b"<!DOCTYPE html>"
    path.write_bytes(content)


def test_no_model_is_built_to_read_a_checkpoint(state, tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise AssertionError("a model was built")

    monkeypatch.setattr(keras.Model, "__init__", fail)
    for name in ("x.pth", "x.npz", "x.safetensors"):
        notes = Notes("t2t_vit_7", (224, 224, 3), (14, 14), class_names=("a", "b"))
        path = write_checkpoint(tmp_path / name, state, notes=notes)
        weights = pretrained.read_file(path, network("t2t_vit_7"))
        assert weights.arrays.keys() == state.keys()
        assert weights.classes == 1000
        assert weights.notes.input_shape == (224, 224, 3)
        assert weights.notes == (
            notes if name == "x.safetensors" else Notes(input_shape=(224,) * 2 + (3,))
        )


def test_what_is_kept_has_published_keys_notes_and_a_checksum(server, state):
    server.content = KINDS["token labeling"](state)
    keras_t2t.T2TViT7(weights="imagenet", input_shape=(64, 64, 3), classes=5, skip_head=True)
    with safetensors.safe_open(cache_folder() / KEPT, framework="numpy") as file:
        assert set(file.keys()) == set(state)
        assert all(np.array_equal(file.get_tensor(key), state[key]) for key in state)
        assert {"keras_t2t", "keras_t2t_crc32"} == set(file.metadata())
    notes = pretrained.read_notes(cache_folder() / KEPT)
    assert notes.variant == "t2t_vit_7" and notes.input_shape == (224, 224, 3)
    assert notes.preprocessing == keras_t2t.model_preprocessing("imagenet")


def test_what_version_0_1_0_kept_is_read_once(server, state, caplog):
    """It kept a `.weights.h5` file, and users may have deleted the published one."""
    old = cache_folder() / "71.7_T2T_ViT_7.weights.h5"
    old.parent.mkdir(parents=True)
    model = keras_t2t.T2TViT7()
    keras_t2t.load_checkpoint(model, state)
    write_weights(old, model, Notes.of(model, "t2t_vit_7"))
    for _ in range(2):
        found = keras_t2t.published_state_dict(keras_t2t.T2TViT7(weights="imagenet"))
        assert_equal(found, state)
        assert (cache_folder() / KEPT).is_file()
        old.unlink(missing_ok=True)
    assert server.requests == [] and caplog.messages == []


def test_a_damaged_file_of_version_0_1_0_is_ignored(server, state, caplog):
    old = cache_folder() / "71.7_T2T_ViT_7.weights.h5"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"<html>")
    assert_equal(keras_t2t.published_state_dict(keras_t2t.T2TViT7(weights="imagenet")), state)
    assert caplog.messages == [
        f"{old} is damaged or holds no weights of a T2T-ViT; it is made again from the published "
        "file"
    ]
    assert len(server.requests) == 1
    keras_t2t.T2TViT7(weights="imagenet")
    assert len(caplog.messages) == 1


def test_a_broken_conversion_is_made_again(server, assert_published, caplog):
    model = keras_t2t.T2TViT7(weights="imagenet")
    path = cache_folder() / KEPT
    damage(path, "bits", model)
    assert_published(keras_t2t.T2TViT7(weights="imagenet"))
    assert caplog.messages == [
        f"{path} is damaged: its checksum is wrong; it is made again from the published file"
    ]
    assert len(server.requests) == 1  # for the published file is still there
    caplog.clear()
    keras_t2t.T2TViT7(weights="imagenet")
    assert caplog.messages == []


@pytest.mark.parametrize("kind", ["bits", "cut", "empty", "page"])
def test_a_broken_file(kind, tmp_path):
    path = tmp_path / "small.weights.h5"
    arguments = {"token_dim": 8, "embed_dim": 16, "depth": 1, "num_heads": 2}
    model = keras_t2t.T2TViT(input_shape=(32, 48, 3), classes=3, **arguments)
    randomise(model)
    write_weights(path, model, Notes.of(model))
    small = functools.partial(keras_t2t.T2TViT, **arguments)
    again = read_weights(path, small)
    assert_equal(again.arrays, keras_t2t.published_state_dict(model))
    assert again.notes == dataclasses.replace(Notes.of(model), preprocessing=None)
    damage(path, kind, model)
    with pytest.raises(ValueError, match="small.weights.h5 is damaged"):
        read_weights(path, small)


def test_a_cache_folder_that_is_full(server, assert_published, monkeypatch, caplog):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pretrained, "write_checkpoint", full)
    assert_published(keras_t2t.T2TViT7(weights="imagenet"))
    assert "converted each time: [Errno 28] No space left on device" in caplog.messages[0]


class TestFaults:
    """One clear error each, and nothing left behind that a later call would trust."""

    def load(self, error, message, variant="t2t_vit_7", weights="imagenet", **arguments):
        with pytest.raises(error, match=message) as caught:
            keras_t2t.create(variant, weights=weights, **arguments)
        assert not cache_folder().exists() or not list(cache_folder().glob("*.safetensors"))
        return str(caught.value)

    def test_missing(self, server, answer):
        server.answers = [answer(status=404)]
        message = self.load(DownloadError, "answered 404 Not Found")
        assert f"{server.url}/{PUBLISHED[0].filename}" in message
        assert f"put it at {cache_folder() / PUBLISHED[0].filename}" in message

    def test_of_another_size(self, server):
        """As published where that is known."""
        self.load(DownloadError, "offers .* bytes, but .* has 86212823", "t2t_vit_14")

    def test_cut_off(self, server, answer, assert_published):
        server.answers = [answer(sends=1 << 20)] * 4
        self.load(DownloadError, "the connection ended after .* bytes .4 attempts.")
        # And goes on where it stopped.
        assert_published(keras_t2t.T2TViT7(weights="imagenet"))
        assert server.requests[-1]["Range"] == f"bytes={4 << 20}-"

    def test_truncated(self, server, answer):
        server.content = server.content[:-1000]
        self.load(DownloadError, "what came is cut short, and was deleted")

    def test_damaged(self, server):
        """A zip file whose pickle is spoilt: only PyTorch can tell."""
        start = server.content.index(b"data.pkl")
        server.content = server.content[: start + 70] + b"\0" * 30 + server.content[start + 100 :]
        message = self.load(ValueError, "is damaged .file.data.pkl.")
        path = cache_folder() / PUBLISHED[0].filename
        assert message.endswith(f"Delete {path} to have it downloaded again.")

    def test_malicious(self, server, tmp_path):
        class Attack:
            def __reduce__(self):
                return os.system, (f"touch {tmp_path / 'trace'}",)

        server.content = saved({"state_dict_ema": {}, "args": Attack()})
        self.load(ValueError, "asks for posix.system, which .* nothing in it was run")
        assert not (tmp_path / "trace").exists()

    def test_of_another_model(self, server, state):
        server.content = saved({"conv1.weight": torch.zeros(8, 3, 3, 3), "fc.bias": torch.ones(8)})
        self.load(ValueError, "no checkpoint of a T2T-ViT: .* found conv1.weight, fc.bias, ...")

    def test_of_another_variant(self, server, state):
        message = self.load(ValueError, "does not fit the model", "t2t_vit_10")
        assert "missing: blocks.9.norm1.weight" in message
        path = cache_folder() / "75.2_T2T_ViT_10.pth.tar"
        assert message.endswith(f"Delete {path} to have it downloaded again.")

    def test_names(self, server, tmp_path):
        self.load(
            ValueError,
            "'imagenet21k' is not published for t2t_vit_7. Expected 'imagenet',",
            weights="imagenet21k",
        )
        self.load(ValueError, "No weights are published for t2t_vit_dense", "t2t_vit_dense")
        self.load(
            FileNotFoundError,
            "There is no checkpoint file .*none.pth",
            weights=tmp_path / "none.pth",
        )
        self.load(
            FileNotFoundError,
            "There is no weights file .*none.weights.h5",
            weights=tmp_path / "none.weights.h5",
        )
        self.load(
            FileNotFoundError,
            "There is no model file .*none.keras",
            weights=tmp_path / "none.keras",
        )
        self.load(
            ValueError, "`weights` must be None, the name .*Received: weights=True", weights=True
        )
        self.load(ValueError, "`skip_head=True` needs weights", weights=None, skip_head=True)
        assert server.requests == []

    @pytest.mark.parametrize(
        ("stored", "variant"), [("t2t_vit_10", "t2t_vit_7"), ("t2t_vit_7", "t2t_vit_10")]
    )
    def test_weights_h5_of_another_variant(self, tmp_path, stored, variant):
        """Keras takes what it finds, and would leave three blocks of t2t_vit_10 unread."""
        path = tmp_path / "own.weights.h5"
        keras_t2t.create(stored, input_shape=(32, 32, 3)).save_weights(path)
        with pytest.raises(ValueError, match="own.weights.h5 .*the weights of another model"):
            keras_t2t.create(variant, weights=path)
