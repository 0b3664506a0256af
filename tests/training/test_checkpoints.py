"""Checkpoint files: written whole or not at all, damage is found, nothing is executed."""

import contextlib
import errno
import os

import numpy as np
import pytest

from keras_t2t.training.checkpoints import Checkpoints, read

ARRAYS = {
    "model/0 a/kernel": np.arange(600, dtype="float32").reshape(20, 30),
    "optimizer/0 iteration": np.array(7, "int64"),
    "model/1 seed": np.array([1, 2], "uint32"),
}


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15):
        checkpoints.save(step, {**ARRAYS, "step": np.array(step)}, {"step": step})
    return checkpoints


def test_round_trip_and_the_last_are_kept(saved):
    assert [path.name for path in saved.paths()] == ["step-0000000010.npz", "step-0000000015.npz"]
    path, arrays, info = saved.newest()
    assert path == saved.paths()[-1] and info == {"step": 15}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].dtype == array.dtype


def cut(data):
    return data[: len(data) // 2]


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flip, lambda data: b"", lambda data: b"PK" * 99])
def test_a_damaged_one_is_skipped_with_a_warning(damage, saved):
    before, newest = saved.paths()
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match="step-0000000015.npz is damaged"):
        path, _, info = saved.newest()
    assert path == before and info == {"step": 10}
    # The next ones, of lower steps, are not taken for the oldest.
    saved.save(12, ARRAYS, {})
    assert [path.name for path in saved.paths()] == ["step-0000000010.npz", "step-0000000012.npz"]


def npz(path, **arrays):
    """A checkpoint as 0.1.0 wrote it, without a checksum of the whole."""
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def test_no_flipped_bit_escapes(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    path = checkpoints.save(1, {"a": np.arange(3.0), "b": np.ones(2, "int8")}, {"step": 1})
    content = path.read_bytes()
    assert len(read(path)[0]) == 2
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError):
            read(path)
    # Without the whole checksum, and nothing else, it is whole, as a file of 0.1.0.
    archive = content.index(b"keras_t2t sha256")
    for length in set(range(len(content))) - {archive}:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError):
            read(path)


def test_a_file_of_version_0_1_0_fails_in_one_way(tmp_path):
    path = tmp_path / "step-0000000001.npz"
    arrays = {"a": np.arange(3.0), "info.json": np.frombuffer(b'{"step": 1}', "uint8")}
    npz(path, **arrays)
    assert read(path)[1] == {"step": 1}
    content = path.read_bytes()
    for bit in range(0, 8 * len(content), 3):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):
            read(path)


def deep_info(path):
    npz(path, **{"info.json": np.frombuffer(b"[" * 100_000, "uint8")})


def no_info(path):
    npz(path, a=np.zeros(3))


def npy(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("made", [deep_info, no_info, npy, folder])
def test_something_else_under_the_name(made, saved):
    made(saved.paths()[-1])
    with pytest.warns(UserWarning, match="step-0000000015.npz is damaged"):
        assert saved.newest()[2] == {"step": 10}


def test_all_damaged(saved):
    for path in saved.paths():
        path.write_bytes(b"")
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="all 2 checkpoints are damaged"),
    ):
        saved.newest()


def test_none(tmp_path):
    assert Checkpoints(tmp_path / "missing").newest() is None


def test_nothing_is_executed(saved):
    """An archive that holds a pickle counts as damaged."""
    path = saved.paths()[-1]
    np.savez(path, **{"info.json": np.array([print], dtype=object)})
    assert b"builtin" in path.read_bytes()
    with pytest.warns(UserWarning, match="damaged"):
        assert saved.newest()[2] == {"step": 10}


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_full_disk_leaves_the_one_before(where, saved, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, where, full)
    with pytest.raises(OSError, match="No space left on device.*intact: .*step-0000000015.npz"):
        saved.save(20, ARRAYS, {})
    monkeypatch.undo()
    assert saved.newest()[2] == {"step": 15}
    assert not list(saved.folder.glob("*.tmp"))


def test_unfinished_files_are_removed(saved):
    (saved.folder / "step-0000000020.tmp").write_bytes(b"half")
    saved.clear_unfinished()
    assert len(list(saved.folder.iterdir())) == 2
