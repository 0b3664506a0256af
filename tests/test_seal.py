"""Whatever is damaged in a model file that we wrote is told, and what others wrote is taken."""

import hashlib

import numpy as np
import pytest

import keras_t2t
from keras_t2t.seal import SEAL, sealed, verify_seal
from tests.exporting.trained import inputs, trained_model

pytestmark = pytest.mark.tensorflow
pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnx")

SUFFIXES = (".tflite", ".onnx")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """{suffix: path} of a small model."""
    model, folder = trained_model(depth=1), tmp_path_factory.mktemp("files")
    paths = {suffix: folder / f"model{suffix}" for suffix in SUFFIXES}
    for path in paths.values():
        keras_t2t.export(model, path, labels=list("abcdef"), verify=False, verbose=False)
    return paths


def test_it_is_the_sha256_of_all_before(files, tmp_path):
    for path in files.values():
        content = path.read_bytes()
        assert content.endswith(hashlib.sha256(content[:-64]).hexdigest().encode())
        assert verify_seal(path)


def test_every_bit_and_every_length(tmp_path):
    path, content = tmp_path / "a", sealed(bytes(range(100)) + SEAL + b"\x12\x40")
    path.write_bytes(content)
    assert verify_seal(path)
    mark = content.index(SEAL)
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        if mark <= bit // 8 < mark + len(SEAL):
            assert not verify_seal(path)
        else:
            with pytest.raises(ValueError, match="its checksum is wrong"):
                verify_seal(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_models(suffix, files, tmp_path):
    content, path = files[suffix].read_bytes(), tmp_path / f"damaged{suffix}"
    mark, rng = content.rindex(SEAL), np.random.default_rng(0)
    bits = [bit for bit in rng.integers(8 * len(content), size=1000) if bit < 8 * mark]
    assert len(bits) > 950
    for bit in bits:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged"):
            keras_t2t.Predictor(path)
    for length in [
        0,
        *rng.integers(mark, size=30),
        mark + 1,
        *range(len(content) - 70, len(content)),
    ]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError):
            keras_t2t.Predictor(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_without_a_seal(suffix, files, tmp_path):
    """As version 0.1.0 and other programs write them."""
    content, path = files[suffix].read_bytes(), tmp_path / f"other{suffix}"
    if suffix == ".tflite":  # it is the comment of a zip file, which has none else
        path.write_bytes(content[: content.rindex(SEAL) - 2] + b"\0\0")
    else:
        path.write_bytes(content.replace(SEAL, b"?" * len(SEAL)))
    assert not verify_seal(path)
    expected = keras_t2t.Predictor(files[suffix]).scores(inputs())
    np.testing.assert_array_equal(keras_t2t.Predictor(path).scores(inputs()), expected)
