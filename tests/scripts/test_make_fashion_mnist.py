"""The script that makes the Fashion-MNIST subset, on a small source of its own making."""

import functools
import gzip
import http.server
import importlib.util
import json
import struct
import threading
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def _load_script():
    path = ROOT / "scripts/make_fashion_mnist.py"
    spec = importlib.util.spec_from_file_location("make_fashion_mnist", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = _load_script()


def _write_idx(path, values):
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()))


@pytest.fixture
def source(tmp_path):
    """A folder with 50 training and 30 test images, every one unlike the others."""
    folder = tmp_path / "source"
    folder.mkdir()
    generator = np.random.default_rng(3)
    for split, count in (("train", 50), ("test", 30)):
        image_file, label_file = script.FILES[split]
        labels = generator.permutation(np.arange(count) % 10).astype(np.uint8)
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        # One pixel tells the class, so that a label that lost its image is seen.
        images[:, 0, 0] = labels
        _write_idx(folder / image_file, images)
        _write_idx(folder / label_file, labels)
    return folder


def _read(folder, split):
    import tensorflow_datasets as tfds

    dataset = tfds.builder_from_directory(folder).as_dataset(split=split, as_supervised=True)
    images, labels = zip(*tfds.as_numpy(dataset), strict=True)
    return np.stack(images), np.array(labels)


@pytest.mark.tensorflow
def test_subset_is_stratified_unchanged_and_readable(source, tmp_path):
    folder = script.make(source, tmp_path / "subset", train=20, test=10)
    for split, each in (("train", 2), ("test", 1)):
        images, labels = _read(folder, split)
        assert images.shape == (each * 10, 28, 28, 1) and images.dtype == np.uint8
        assert np.bincount(labels, minlength=10).tolist() == [each] * 10
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
        originals = script.parse_idx(script.read_source(source, script.FILES[split][0]), "images")
        stored = {image.tobytes() for image in images}
        assert len(stored) == each * 10
        assert stored < {image.tobytes() for image in originals}

    import tensorflow_datasets as tfds

    names = tfds.builder_from_directory(folder).info.features["label"].names
    assert names == list(script.CLASS_NAMES)
    assert "Zalando SE" in (tmp_path / "subset/LICENSE").read_text(encoding="utf-8")
    assert "20 training and 10 test" in (tmp_path / "subset/README.md").read_text(encoding="utf-8")


@pytest.mark.tensorflow
def test_same_seed_gives_the_same_bytes_and_another_seed_others(source, tmp_path):
    def contents(name, seed):
        script.make(source, tmp_path / name, train=20, test=10, seed=seed)
        files = sorted(file for file in (tmp_path / name).rglob("*") if file.is_file())
        return {file.relative_to(tmp_path / name): file.read_bytes() for file in files}

    first, again, other = contents("first", 0), contents("again", 0), contents("other", 1)
    assert first == again
    records = [path for path in first if "train.tfrecord" in path.name]
    assert len(records) == 1 and first[records[0]] != other[records[0]]


@pytest.mark.tensorflow
def test_nothing_is_overwritten_unless_forced(source, tmp_path):
    out = tmp_path / "subset"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="--force"):
        script.make(source, out, train=20, test=10)
    assert (out / "mine.txt").read_text() == "mine"
    script.make(source, out, train=20, test=10, force=True)
    assert sorted(path.name for path in out.iterdir()) == ["1.0.0", "LICENSE", "README.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "subset"]


def test_choice_is_every_class_equally_often():
    labels = np.repeat(np.arange(10, dtype=np.uint8), np.arange(5, 15))
    chosen = script.choose(labels, 40, seed=0)
    assert len(set(chosen.tolist())) == 40
    assert np.bincount(labels[chosen]).tolist() == [4] * 10
    assert not np.array_equal(chosen, script.choose(labels, 40, seed=1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "t10k-images-idx3-ubyte.gz").unlink(), "does not exist"),
        (
            lambda folder: (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"no gzip"),
            "train-labels-idx1-ubyte.gz is not a complete gzip file",
        ),
        (
            lambda folder: _write_idx(
                folder / "train-images-idx3-ubyte.gz", np.zeros((50, 32, 32), np.uint8)
            ),
            r"expected images of \(28, 28\), got \(32, 32\)",
        ),
        (
            lambda folder: _write_idx(
                folder / "train-labels-idx1-ubyte.gz", np.zeros((49,), np.uint8)
            ),
            "49 labels for 50 images",
        ),
        (
            lambda folder: _write_idx(
                folder / "train-labels-idx1-ubyte.gz", np.full((50,), 10, np.uint8)
            ),
            "expected labels from 0 to 9, got 10",
        ),
        (
            lambda folder: _write_idx(
                folder / "train-labels-idx1-ubyte.gz", np.zeros((50,), np.uint8)
            ),
            "2 images of class 'Trouser' needed, got 0",
        ),
        (
            lambda folder: (folder / "train-labels-idx1-ubyte.gz").write_bytes(
                gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x32" + bytes(20))
            ),
            r"its header says \(50,\), but it holds 20 values",
        ),
        (
            lambda folder: (folder / "train-labels-idx1-ubyte.gz").write_bytes(
                gzip.compress(b"<html>")
            ),
            "expected an IDX file",
        ),
    ],
    ids=["missing", "no-gzip", "size", "count", "label", "too-few", "cut", "no-idx"],
)
def test_a_bad_source_is_named_and_leaves_nothing_behind(source, tmp_path, damage, message):
    damage(source)
    with pytest.raises(ValueError, match=message):
        script.make(source, tmp_path / "subset", train=20, test=10)
    assert not (tmp_path / "subset").exists()


def test_command_prints_one_line_for_a_bad_source(tmp_path):
    with pytest.raises(SystemExit, match="does not exist"):
        script.main(["--source", str(tmp_path), "--out", str(tmp_path / "subset")])


def test_a_web_address_serves_as_well_as_a_folder(source, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    name = script.FILES["test"][1]
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=source)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert script.read_source(address, name) == script.read_source(source, name)
        with pytest.raises(ValueError, match="could not download .*absent.gz: HTTP Error 404"):
            script.read_source(address, "absent.gz")
        server.shutdown()


def test_an_unreachable_address_is_named(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # Port 9 of the loopback: refused at once, and nothing leaves the machine.
    with pytest.raises(ValueError, match="could not download http://127.0.0.1:9/train-images"):
        script.read_source("http://127.0.0.1:9", "train-images-idx3-ubyte.gz")


def test_committed_subset_is_small_and_declares_what_the_readme_says():
    folder = ROOT / "examples/data/fashion_mnist_subset"
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    info = json.loads((folder / "1.0.0/dataset_info.json").read_text(encoding="utf-8"))
    counts = {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]}
    assert counts == {"train": 10_000, "test": 2_000}
    assert "MIT License" in (folder / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.tensorflow
def test_committed_subset_is_stratified_and_shares_no_image_between_splits():
    folder = ROOT / "examples/data/fashion_mnist_subset/1.0.0"
    train_images, train_labels = _read(folder, "train")
    test_images, test_labels = _read(folder, "test")
    assert np.bincount(train_labels).tolist() == [1000] * 10
    assert np.bincount(test_labels).tolist() == [200] * 10
    # The published mean of Fashion-MNIST is 0.2860 and its deviation 0.3530, in units of 255.
    assert abs(train_images.mean() / 255 - 0.2860) < 0.005
    assert abs(train_images.std() / 255 - 0.3530) < 0.005
    seen = {image.tobytes() for image in train_images}
    assert not any(image.tobytes() in seen for image in test_images)
