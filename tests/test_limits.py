"""Small files that ask for much memory are refused before it is taken, each in one line."""

import contextlib
import copy
import gzip
import io
import itertools
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy

import keras_t2t
from keras_t2t.commands.main import main
from keras_t2t.data.idx import read_idx
from keras_t2t.limits import ALLOWANCE_VARIABLE, TooLarge, load_yaml, refuse_zip_bomb
from keras_t2t.training import load_recipe
from keras_t2t.weights.checkpoint import NOTES, read_checkpoint
from keras_t2t.weights.keras_files import read_model, read_weights_notes

pytestmark = pytest.mark.tensorflow  # other tests read models on the other backends

MIB = 2**20
ALLOWED = 64 * MIB
BOMB = 256 * MIB  # of zeros, a quarter of a MiB when packed


@pytest.fixture(autouse=True)
def little_allowed(monkeypatch):
    """The limit's own size would cost each of these tests seconds."""
    monkeypatch.setenv(ALLOWANCE_VARIABLE, str(ALLOWED / 2**30))


@contextlib.contextmanager
def memory_bound():
    """Fails if the block takes more memory, at any time, than the allowance and some for Python."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts from now
    except OSError:
        pytest.skip("this system does not tell how much memory was taken")
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < ALLOWED + 32 * MIB


def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def pack(path, name, size=BOMB, start=b""):
    """Puts zeros into a zip file, after `start`."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file, file.open(name, "w") as entry:
        entry.write(start)
        for _ in range(size // MIB):
            entry.write(bytes(MIB))
    return path


def npy(shape):
    """The head of a .npy file."""
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


def npz_of_zeros(path):
    return pack(path / "a.npz", "w.npy", start=npy((BOMB // 4,)))


def npz_of_one_entry_many_times(path):
    path = pack(path / "a.npz", "w.npy", size=4 * MIB, start=npy((MIB,)))
    with zipfile.ZipFile(path, "a") as file:
        for number in range(1000):
            again = copy.copy(file.filelist[0])
            again.filename = again.orig_filename = f"w{number}.npy"
            file.filelist.append(again)
        file.writestr("end.npy", npy((0,)))
    return path


def npz_that_is_short(path):
    return pack(path / "a.npz", "w.npy", size=0, start=npy((10**12,)))


def npy_that_is_short(path):
    (path / "a.npz").write_bytes(npy((10**12,)))
    return path / "a.npz"


def torch_file(path, tensors, **options):
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": tensors(torch)}, path / "a.pth", **options)
    return path / "a.pth"


def stride_of_0(torch):
    return {"w": torch.zeros(1).expand(10**11)}


def views_of_one(torch):
    whole = torch.zeros(MIB)
    return {f"w{number}": whole.view(-1, 4) for number in range(1000)}


def legacy_stride_of_0(path):
    return torch_file(path, stride_of_0, _use_new_zipfile_serialization=False)


def legacy_views_of_one(path):
    return torch_file(path, views_of_one, _use_new_zipfile_serialization=False)


def torch_file_with_packed_pickle(path):
    path = torch_file(path, lambda torch: {"w": torch.zeros(4)})
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    path.unlink()
    with zipfile.ZipFile(path, "w") as file:
        for name in [name for name in content if not name.endswith("data.pkl")]:
            file.writestr(name, content[name])
    return pack(path, "archive/data.pkl")


def safetensors_of_a_large_model(path):
    arrays = {"pos_embed": np.zeros((1, 5, 8), "float32")}
    arrays["tokens_to_token.attention1.norm1.weight"] = np.zeros(147, "float32")
    notes = {NOTES: json.dumps({"input_shape": [10**6, 10**6, 3]})}
    (path / "a.safetensors").write_bytes(safetensors.numpy.save(arrays, notes))
    return path / "a.safetensors"


@pytest.mark.parametrize(
    "made",
    [
        npz_of_zeros,
        npz_of_one_entry_many_times,
        npz_that_is_short,
        npy_that_is_short,
        lambda path: torch_file(path, stride_of_0),
        lambda path: torch_file(path, views_of_one),
        legacy_stride_of_0,
        legacy_views_of_one,
        torch_file_with_packed_pickle,
        safetensors_of_a_large_model,
    ],
)
def test_weights(made, tmp_path):
    path = made(tmp_path)
    with memory_bound(), pytest.raises(ValueError) as error:
        keras_t2t.T2TViT7(weights=path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def keras_file(path, model, weights=None):
    """A `.keras` file of a model's configuration that holds no more than a few bytes."""
    config = keras.saving.serialize_keras_object(model)
    with zipfile.ZipFile(path / "a.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", json.dumps(config))
        with file.open("model.weights.h5", "w") as entry:
            entry.write(weights or hdf5(lambda file: None))
    return path / "a.keras"


def hdf5(fill):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        fill(file)
    return content.getvalue()


def unfilled(*layers):
    with keras.StatelessScope(initialize_variables=False):
        return keras.Sequential(layers)


def large_layer(path):
    inputs = keras.Input((1000,))
    return keras_file(path, unfilled(inputs, keras.layers.Dense(10**9)))


def large_network(path):
    with keras.StatelessScope(initialize_variables=False):
        model = keras_t2t.T2TViT(input_shape=(4096, 4096, 3))
    return keras_file(path, model)


def many_layers(path):
    path = keras_file(path, unfilled(keras.Input((4,)), keras.layers.ReLU()))
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    config = json.loads(content["config.json"])
    config["config"]["layers"] += config["config"]["layers"][-1:] * 20_000
    with zipfile.ZipFile(path, "w") as file:
        for name in content:
            file.writestr(name, json.dumps(config) if name == "config.json" else content[name])
    return path


def zeros(file):
    file.create_dataset("w", (BOMB // 4,), "float32", compression="gzip", chunks=(MIB,))
    for start in range(0, BOMB // 4, MIB):
        file["w"][start : start + MIB] = 0


def nothing(file):
    file.create_dataset("w", (10**6, 10**6), "float32", chunks=(1000, 1000))


def large_array(path):
    return keras_file(path, unfilled(keras.Input((4,)), keras.layers.Dense(2)), hdf5(zeros))


def long_configuration(path):
    return pack(keras_file(path, unfilled(keras.Input((4,)))), "config.json", 32 * MIB)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "made", [large_layer, large_network, many_layers, large_array, long_configuration]
)
def test_models(made, tmp_path):
    path = made(tmp_path)
    with memory_bound(), pytest.raises(ValueError) as error:
        read_model(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("fill", [zeros, nothing])
def test_arrays_of_keras(fill, tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_bytes(hdf5(fill))
    with memory_bound(), pytest.raises(TooLarge, match="a.weights.h5 would take"):
        read_weights_notes(path)


@pytest.mark.parametrize("sizes, zeros", [((BOMB,), BOMB), ((2**32 - 1,) * 4, 9), ((3,), BOMB)])
def test_idx(sizes, zeros, tmp_path):
    path = tmp_path / "a.gz"
    with gzip.open(path, "w") as file:
        file.write(bytes((0, 0, 8, len(sizes))) + np.array(sizes, ">u4").tobytes())
        for _ in range(0, zeros, MIB):
            file.write(bytes(min(MIB, zeros)))
    with memory_bound(), pytest.raises(ValueError, match="a.gz"):
        read_idx(path)


@pytest.mark.parametrize("size", [(100_000, 100_000), (1, 2**24 + 1)])
def test_images(size):
    with pytest.raises(
        ValueError, match=r"height: expected at most 16777216 pixels with `width`, got"
    ):
        keras_t2t.Preprocessing(*size)


ALIASES = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}]\n" for old, new in itertools.pairwise("abcdefghijklm")
)


@pytest.mark.parametrize(
    "text, reason",
    [
        (ALIASES, "expected no aliases, got [*]a"),
        ("a: &a [*a]", "expected no aliases"),
        ("a: &a {b: 1}\nc: {<<: *a}", "expected no aliases"),
        ("[" * 100_000, "recursion"),
        ("x" * (2**24 + 1), "expected at most 16777216 characters"),
        (b"\xff\xfe\x00", "YAML"),
        ("9" * 10_000, "YAML"),
    ],
)
def test_yaml(text, reason, tmp_path, capsys):
    with memory_bound(), pytest.raises(ValueError, match=reason):
        load_yaml(text, "YAML")
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with memory_bound(), pytest.raises(ValueError, match=f"a.yaml: is not a recipe .*{reason}"):
        load_recipe(path)
    assert main(["train", "--config", str(path)]) == 2
    assert capsys.readouterr().err.startswith("keras-t2t: error: --config: ")


def test_a_configuration_that_names_itself(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text(f"config: {tmp_path / 'a.yaml'}")
    assert main(["train", "--config", str(tmp_path / "a.yaml")]) == 2
    assert "expected a mapping of options in YAML, without config" in capsys.readouterr().err


def test_the_limit_is_the_users(tmp_path, monkeypatch):
    path = npz_of_zeros(tmp_path)
    message = f"0.3 GiB of memory, over 0.0625 GiB more .* set {ALLOWANCE_VARIABLE}"
    with pytest.raises(TooLarge, match=message):
        refuse_zip_bomb(path)
    monkeypatch.setenv(ALLOWANCE_VARIABLE, "0.25")
    assert read_checkpoint(path)["w"].nbytes == BOMB
    monkeypatch.setenv(ALLOWANCE_VARIABLE, "much")
    with pytest.raises(ValueError, match=f"{ALLOWANCE_VARIABLE}: expected a number, got 'much'"):
        refuse_zip_bomb(path)
