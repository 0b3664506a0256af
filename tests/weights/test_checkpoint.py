"""Every published kind of checkpoint is read exactly; hostile and damaged ones are refused."""

import argparse
import io
import json
import os
import pickle
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy as safetensors_numpy

from keras_t2t.preprocessing import Preprocessing
from keras_t2t.weights import checkpoint
from keras_t2t.weights.checkpoint import (
    read_checkpoint,
    read_checkpoint_notes,
    torch_format,
    write_checkpoint,
)
from keras_t2t.weights.notes import Notes

torch = pytest.importorskip("torch")

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
SMALL = {"head.weight": np.arange(6, dtype="float32").reshape(2, 3), "head.bias": np.ones(2, "f4")}


def tensors(arrays, prefix=""):
    return {prefix + key: torch.from_numpy(np.array(array)) for key, array in arrays.items()}


def save(content, path, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert torch_format(path) == ("zip" if zipped else "legacy")
    return path


def assert_same(arrays, expected):
    """Keys, their order, shapes, types and every bit."""
    assert list(arrays) == list(expected)
    for key, array in expected.items():
        assert arrays[key].dtype == array.dtype, key
        assert arrays[key].shape == array.shape, key
        assert arrays[key].tobytes() == array.tobytes(), key


@FORMATS
@pytest.mark.parametrize("container", ["state_dict_ema", "state_dict", "net", None])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_published_kind(state, tmp_path, zipped, container, prefix):
    content = tensors(state, prefix)
    if container:
        content = {container: content, "epoch": 299, "acc": 81.5}
    path = save(content, tmp_path / "published.pth.tar", zipped)
    assert_same(read_checkpoint(path), state)


@FORMATS
def test_training_checkpoint(state, tmp_path, zipped):
    """As timm's CheckpointSaver writes it: arguments, optimizer and scaler beside the weights."""
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    live = {key: array + 1 for key, array in state.items()}
    content = {
        "epoch": 299,
        "arch": "t2t_vit_7",
        "state_dict": tensors(live, "module."),
        "optimizer": optimizer.state_dict(),
        "version": 2,
        "args": argparse.Namespace(lr=5e-4, aa="rand-m9", scale=[0.08, 1.0], amp=None),
        "amp_scaler": {"scale": 65536.0},
        "state_dict_ema": tensors(state),
        "metric": 71.7,
    }
    path = save(content, tmp_path / "checkpoint-299.pth.tar", zipped)
    assert_same(read_checkpoint(path), state)
    assert_same(read_checkpoint(path, ema=False), live)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_containers_come_in_order(tmp_path):
    names = ("state_dict_ema", "state_dict", "net")
    content = {name: {"x": torch.tensor([float(i)])} for i, name in enumerate(names)}
    path = tmp_path / "all.pth"
    for i, name in enumerate(names):
        save(content, path)
        assert read_checkpoint(path)["x"] == i
        assert read_checkpoint(path, ema=False)["x"] == max(i, 1)
        content[name] = None  # as timm saves an average that was not kept
    content["net"] = {"x": torch.tensor([2.0])}


def test_average_is_never_passed_off_as_the_live_weights(tmp_path):
    path = save({"state_dict_ema": tensors(SMALL)}, tmp_path / "ema.pth")
    with pytest.raises(ValueError, match=r"ema\.pth holds averaged weights only .* ema=True"):
        read_checkpoint(path, ema=False)


def test_parameters_and_views(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    content = {"a": torch.nn.Parameter(base), "b": base.t(), "c": base[1:, 2]}
    arrays = read_checkpoint(save(content, tmp_path / "views.pth"))
    expected = np.arange(12, dtype="float32").reshape(3, 4)
    for key, array in {"a": expected, "b": expected.T, "c": expected[1:, 2]}.items():
        np.testing.assert_array_equal(arrays[key], array)


@FORMATS
def test_half_precision_becomes_float32(tmp_path, zipped):
    exact = np.arange(-8, 8, dtype="float32") / 4  # no type rounds these
    content = {"f16": torch.from_numpy(exact).half(), "bf16": torch.from_numpy(exact).bfloat16()}
    path = save(content, tmp_path / "half.pth", zipped)
    assert_same(read_checkpoint(path), {"f16": exact, "bf16": exact})


def test_half_precision_without_torch(tmp_path):
    exact = np.arange(-8, 8, dtype="float32") / 4
    content = {"bf16": exact.astype(ml_dtypes.bfloat16), "f16": exact.astype("float16")}
    safetensors = tmp_path / "half.safetensors"
    torch_content = {"bf16": torch.from_numpy(exact).bfloat16(), "f16": torch.tensor(exact).half()}
    from safetensors.torch import save_file

    save_file(torch_content, safetensors)
    arrays = read_checkpoint(safetensors)
    assert_same({key: arrays[key] for key in content}, {"bf16": exact, "f16": exact})
    np.savez(tmp_path / "half.npz", f16=content["f16"])
    assert_same(read_checkpoint(tmp_path / "half.npz"), {"f16": exact})
    # NumPy's format forgets what bfloat16 was.
    np.savez(tmp_path / "bf16.npz", bf16=content["bf16"])
    with pytest.raises(ValueError, match=r"bf16\.npz holds dtype \|V2 under 'bf16'"):
        read_checkpoint(tmp_path / "bf16.npz")


def test_key_with_and_without_prefix(tmp_path):
    path = save({"module.x": torch.ones(1), "x": torch.zeros(1)}, tmp_path / "twice.pth")
    with pytest.raises(ValueError, match=r"twice\.pth holds 'x' twice"):
        read_checkpoint(path)


class Call:
    """Unpickles as a call, the way malicious files do."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def attacks(trace):
    code = f"open({str(trace)!r}, 'w').close()"
    return {
        "posix.system": Call(os.system, f"touch {trace}"),
        "exec": Call(exec, code),
        "eval": Call(eval, code),
        "io.open": Call(open, str(trace), "w"),
        "os.mkdir": Call(os.mkdir, str(trace)),
        "getattr": Call(getattr, Call(__import__, "os"), "system"),
    }


@FORMATS
@pytest.mark.parametrize("name", attacks(""))
def test_malicious_file_is_refused(tmp_path, zipped, name):
    trace = tmp_path / "trace"
    attack = attacks(trace)[name]
    # The attack is real: the pickle module falls for it, except where it only reaches for os.
    if name != "getattr":
        pickle.loads(pickle.dumps(attack))
        assert trace.exists()
        trace.rmdir() if trace.is_dir() else trace.unlink()
    path = save({"state_dict_ema": tensors(SMALL), "args": attack}, tmp_path / "evil.pth", zipped)
    with pytest.raises(ValueError) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "refused and nothing in it was run" in str(caught.value)
    assert "weights_only" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_malicious_plain_pickle_is_refused(tmp_path, protocol):
    trace = tmp_path / "trace"
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(attacks(trace)["exec"], protocol=protocol))
    with pytest.raises(ValueError, match=r"evil\.pth (asks for|cannot be read as)"):
        read_checkpoint(path)
    assert not trace.exists()


def test_namespace_cannot_smuggle_a_call(tmp_path):
    trace = tmp_path / "trace"
    content = {"net": tensors(SMALL), "args": argparse.Namespace(x=attacks(trace)["exec"])}
    with pytest.raises(ValueError, match="asks for exec"):
        read_checkpoint(save(content, tmp_path / "evil.pth"))
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script_archive_is_refused(tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(path)
    with pytest.raises(ValueError, match=r"script\.pt cannot be read as a PyTorch file"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".pkl"])
def test_malicious_npz_is_refused(tmp_path, suffix):
    trace = tmp_path / "trace"
    attack = attacks(trace)["exec"]
    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez(buffer, x=np.array([attack], dtype=object))
    elif suffix == ".npy":
        np.save(buffer, np.array([attack], dtype=object))
    else:
        pickle.dump(attack, buffer)
    path = tmp_path / "evil.npz"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"evil\.npz cannot be read .* are never loaded"):
        read_checkpoint(path)
    assert not trace.exists()


OTHER_FILES = {
    "empty": (b"", "is empty"),
    "page": (b"\n<!DOCTYPE html><html><body>Not found", "is not a PyTorch file: it starts with"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), "is not a PyTorch file: it starts with"),
    "zip without end": (b"PK\x03\x04" + bytes(100), "is cut short"),
    "one byte": (b"\x80", "cannot be read as a PyTorch file"),
    "noise": (b"\x80" + bytes(range(256)), "cannot be read as a PyTorch file"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_file_that_is_no_checkpoint(tmp_path, name):
    content, message = OTHER_FILES[name]
    for suffix in (".pth", ".pth.tar", ".npz", ".safetensors"):
        path = tmp_path / f"bad{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError) as caught:
            read_checkpoint(path)
        expected = message if ".pth" in suffix else "cannot be read as "
        assert str(caught.value).startswith(f"{path} {expected}")
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_other_zip_file(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"model\.keras cannot be read as a PyTorch file"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "x.npz", "x.safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.999])
def test_truncated_file(tmp_path, name, share):
    path = tmp_path / name
    arrays = {f"block.{i}": np.full((50, 10), i, "float32") for i in range(10)}
    if path.suffix == ".pth":
        save(tensors(arrays), path, zipped=name.startswith("zip"))
    else:
        write_checkpoint(path, arrays)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "model": {}}, "expected a tensor under each name, found int under 'epoch'"),
        ({1: torch.ones(1)}, "found Tensor under 1"),
        ([torch.ones(1)], "holds a list. Expected a dict of tensors"),
        ({"state_dict": {}}, "holds no tensors"),
        ({"x": torch.eye(2).to_sparse()}, "without a NumPy equivalent under 'x'"),
        ({"x": torch.ones(1, dtype=torch.complex64)}, "holds dtype complex64 under 'x'"),
    ],
    ids=["metadata", "number", "list", "empty", "sparse", "complex"],
)
def test_file_without_a_state_dict(tmp_path, content, message):
    with pytest.raises(ValueError) as caught:
        read_checkpoint(save(content, tmp_path / "other.pth"))
    assert str(caught.value).startswith(str(tmp_path / "other.pth"))
    assert message in str(caught.value)


def test_missing_file(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"no checkpoint file {path}"):
            read_checkpoint(path)


def test_without_torch(tmp_path, monkeypatch):
    path = save(tensors(SMALL), tmp_path / "x.pth")
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (
        lambda: read_checkpoint(path),
        lambda: write_checkpoint(tmp_path / "y.pth", SMALL),
    ):
        with pytest.raises(ImportError, match=r'pip install "keras_t2t\[convert\]"'):
            call()
    assert list(tmp_path.iterdir()) == [path]
    for name in ("x.npz", "x.safetensors"):
        arrays = read_checkpoint(write_checkpoint(tmp_path / name, SMALL))
        assert arrays.keys() == SMALL.keys()


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pth"])
def test_a_flipped_bit_is_told_or_changes_nothing(tmp_path, suffix):
    """It may lie where nothing is read from, as the dates in a zip file do."""
    arrays = {"a": np.arange(6, dtype="float32").reshape(2, 3), "b": np.ones(2, "int64")}
    notes = Notes(class_names=("cat", "dog"), grid=(2, 3))
    path = write_checkpoint(tmp_path / f"x{suffix}", arrays, notes=notes)
    given, content, told = read_checkpoint_notes(path), path.read_bytes(), 0
    for bit in range(0, 8 * len(content), 1 if len(content) < 1000 else 7):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path)
            assert read_checkpoint_notes(path) == given
        except ValueError as error:
            told += 1
            assert "\n" not in str(error)
            continue
        # A zip file may tell of fewer entries: no model is filled by some of its arrays.
        assert found.keys() == arrays.keys() or (suffix == ".pth" and found.keys() < arrays.keys())
        for key in found:
            assert found[key].dtype == arrays[key].dtype
            np.testing.assert_array_equal(found[key], arrays[key], err_msg=f"bit {bit}")
    assert told > 300


def test_a_safetensors_file_of_others_has_no_checksum(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_numpy.save(SMALL, {"format": "pt"}))
    assert read_checkpoint(path).keys() == SMALL.keys()
    assert read_checkpoint_notes(path) == Notes()


def test_notes_come_back(tmp_path):
    notes = Notes("t2t_vit_7", (96, 160, 3), (6, 10), Preprocessing(96, 160), ("cat", "dog"))
    path = write_checkpoint(tmp_path / "x.safetensors", SMALL, notes=notes)
    assert read_checkpoint_notes(path) == notes
    # Of a later version, which knows more.
    text = json.dumps({**json.loads(notes.to_json()), "colour": "red"})
    assert Notes.from_json(text, path) == notes


@pytest.mark.parametrize("version", ["2.9.1", "1.13.0+cpu", "2.10.0", "3.0.0"])
def test_torch_that_does_not_read_safely(tmp_path, monkeypatch, version):
    path = save(tensors(SMALL), tmp_path / "x.pth")
    monkeypatch.setattr(torch, "__version__", version)
    if version in ("2.10.0", "3.0.0"):
        assert_same(read_checkpoint(path), SMALL)
    else:
        with pytest.raises(ImportError, match="CVE-2026-24747.*2.10 or newer"):
            read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".safetensors", ".npz"])
def test_round_trip(state, tmp_path, suffix):
    path = write_checkpoint(tmp_path / f"out{suffix}", state)
    assert path == tmp_path / f"out{suffix}"
    assert list(tmp_path.iterdir()) == [path]
    arrays = read_checkpoint(path)
    # safetensors keeps its own order.
    ordered = {key: arrays[key] for key in state} if suffix == ".safetensors" else arrays
    assert len(arrays) == len(state)
    assert_same(ordered, state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_round_trip_of_unusual_arrays(tmp_path, suffix):
    bits = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 0x00000001, 0x7F800000], "uint32")
    read_only = np.arange(3.0, dtype="float32")
    read_only.flags.writeable = False
    arrays = {
        "bits": bits.view("float32"),  # NaN with payloads, -0, a denormal, infinity
        "count": np.array(7, "int64"),
        "double": np.array([1 / 3]),
        "empty": np.zeros((0, 3), "float32"),
        "flag": np.array([True, False]),
        "read_only": read_only,
    }
    views = {
        "transposed": np.arange(6, dtype="float32").reshape(2, 3).T,
        "reversed": np.arange(6, dtype="float32")[::-1],
        "big_endian": np.arange(3, dtype=">f4"),
    }
    path = write_checkpoint(tmp_path / f"x{suffix}", arrays | views)
    result = read_checkpoint(path)
    assert len(result) == len(arrays) + len(views)
    assert_same({key: result[key] for key in arrays}, arrays)
    for key, array in views.items():
        assert result[key].dtype == "float32"
        np.testing.assert_array_equal(result[key], array)


@pytest.mark.filterwarnings("error")
def test_plain_torch_reads_what_is_written(state, tmp_path):
    frozen = {key: array.copy() for key, array in state.items()}
    for array in frozen.values():
        array.flags.writeable = False  # as the arrays of some backends are
    path = write_checkpoint(tmp_path / "out.pth", frozen)
    loaded = torch.load(path, weights_only=True)
    assert {key: tuple(t.shape) for key, t in loaded.items()} == {
        key: array.shape for key, array in state.items()
    }
    assert all(t.dtype == torch.float32 for t in loaded.values())
    head = torch.nn.Linear(256, 1000)
    head.load_state_dict({name: loaded[f"head.{name}"] for name in ("weight", "bias")})
    np.testing.assert_array_equal(head.weight.detach().numpy(), state["head.weight"])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_nothing_is_overwritten_unasked(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=f"x{suffix} exists. Pass overwrite=True"):
        write_checkpoint(path, SMALL)
    assert path.read_bytes() == b"precious"
    write_checkpoint(path, SMALL, overwrite=True)
    assert read_checkpoint(path).keys() == SMALL.keys()
    assert list(tmp_path.iterdir()) == [path]


def test_file_can_replace_the_one_its_arrays_come_from(state, tmp_path):
    path = write_checkpoint(tmp_path / "x.pth", state)
    arrays = read_checkpoint(path)  # these lie in the mapped file
    write_checkpoint(path, arrays, overwrite=True)
    assert_same(arrays, state)
    assert_same(read_checkpoint(path), state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_written_files_have_the_usual_permissions(tmp_path, suffix):
    usual = tmp_path / "usual"
    usual.touch()
    path = write_checkpoint(tmp_path / f"x{suffix}", SMALL)
    assert path.stat().st_mode == usual.stat().st_mode


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "x.npz", SMALL)
    before = path.read_bytes()

    def fails_midway(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint.np, "savez", fails_midway)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, {"other": np.ones(3)}, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "arrays", "error", "message"),
    [
        ("x.h5", SMALL, ValueError, r"x\.h5. Expected a name that ends in \.pth, \.pth\.tar, "),
        ("x.npz", {}, ValueError, "arrays is empty"),
        ("x.npz", {"a": np.array([None])}, ValueError, "arrays holds dtype object under 'a'"),
        ("no/x.npz", SMALL, FileNotFoundError, "There is no folder .*no"),
    ],
    ids=["suffix", "empty", "object", "folder"],
)
def test_bad_arguments_of_write(tmp_path, name, arrays, error, message):
    with pytest.raises(error, match=message):
        write_checkpoint(tmp_path / name, arrays)
    assert list(tmp_path.iterdir()) == []
