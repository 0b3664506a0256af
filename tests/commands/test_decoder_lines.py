"""What image decoders say of damaged files stays off the screen, and nothing else does."""

import contextlib
import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_t2t.commands.console import without_decoder_lines
from keras_t2t.commands.decoder_lines import DECODER_LINES
from keras_t2t.commands.main import main
from keras_t2t.data.decoding import decode
from keras_t2t.image_files import load_image
from tests.exporting.trained import photos, trained_model

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
DAMAGED_COPIES = 25
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010E] = 6, "x" * 100  # orientation and a description


def encoded(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def sound_files():
    """An image in whatever ways a file can hold it."""
    image = Image.fromarray(photos(1, (48, 64))[0])
    palette, black = image.quantize(16), image.convert("1")
    partly = bytes([0, 100] * 8)  # transparent
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 3}):
        yield encoded(image, "JPEG", quality=90, **options)
    yield encoded(image.convert("CMYK"), "JPEG")
    yield encoded(image.convert("L"), "JPEG", exif=EXIF)
    for kind in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg", "lzma", None):
        yield encoded(image, "TIFF", compression=kind)
    for kind in ("group3", "group4", "tiff_ccitt"):
        yield encoded(black, "TIFF", compression=kind)
    yield encoded(image, "PNG", icc_profile=b"no profile")
    yield encoded(palette, "PNG", transparency=partly)
    yield encoded(palette, "GIF", transparency=3)
    yield from (encoded(image, "BMP"), encoded(image, "WEBP"))


def damaged(content, rng):
    """The file cut off, or with some of its bytes replaced, added or turned into a marker."""
    place, noise = int(rng.integers(2, len(content) - 2)), rng.bytes(int(rng.integers(1, 60)))
    return (
        content[:place],
        content[:place] + noise + content[place + len(noise) :],
        content[:place] + noise + content[place:],
        content[:place] + bytes([0xFF, rng.integers(0xC0, 0x100)]) + content[place + 2 :],
    )[rng.integers(4)]


def test_what_decoders_say_is_known(capfd):
    tf.constant(0)  # TensorFlow looks for devices, of which it tells
    capfd.readouterr()
    rng, count = np.random.default_rng(0), 0
    pixels = tf.function(
        lambda file: decode(file, 3), input_signature=[tf.TensorSpec((), "string")]
    )
    with warnings.catch_warnings(action="ignore"):
        for content in sound_files():
            for _ in range(DAMAGED_COPIES):
                count += 1
                # Some of TensorFlow's messages quote the file.
                with contextlib.suppress(tf.errors.OpError, UnicodeDecodeError):
                    pixels(tf.constant(damaged(content, rng)))
    assert count == 19 * DAMAGED_COPIES
    lines = capfd.readouterr().err.encode().splitlines(keepends=True)
    for kind in (rb"Corrupt JPEG data", rb"\w+Decode: ", rb"E\d{4} .*jpeg_mem.cc"):
        assert any(re.match(kind, line) for line in lines)
    assert [line for line in lines if not DECODER_LINES.match(line)] == []


def noisy_files():
    """Images that are decoded, each with a warning or a line to stderr."""
    image = Image.fromarray(photos(1, (48, 64))[0])
    jpeg, palette = encoded(image, "JPEG", quality=90), image.quantize(16)
    yield "extraneous.jpg", jpeg[:-2] + b"\x01" * 239 + jpeg[-2:]
    half = len(jpeg) // 2
    yield "marker.jpg", jpeg[:half] + b"\xff\xd3" + jpeg[half + 2 :]
    yield "exif.jpg", encoded(image, "JPEG", exif=EXIF.tobytes()[:20])
    yield "palette.gif", encoded(palette, "GIF", transparency=3)
    yield "palette.png", encoded(palette, "PNG", transparency=bytes([0, 100] * 8))
    large = Image.new("L", (10_000, 9_000))  # more pixels than Pillow lets pass without a word
    yield "large.bmp", encoded(large, "BMP")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("noisy")
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / "data" / split / name).mkdir(parents=True)
    for number, (name, content) in enumerate(noisy_files()):
        for split in ("train", "val"):
            (folder / "data" / split / ("cat", "dog")[number % 2] / name).write_bytes(content)
    shape = {"input_shape": (28, 28, 3), "depth": 1, "classes": 2}
    trained_model(**shape).save(folder / "model.keras")
    (folder / "labels.txt").write_text("cat\ndog\n")
    return folder


@pytest.mark.parametrize(
    "line",
    [
        "check-data data",
        "show-batch data --out batch.png --images 6",
        "predict data --model model.keras",
        "visualize data/val/cat/exif.jpg data/val/dog/palette.gif --model model.keras --out seen",
        "export model.keras saved --images data",
        "train --recipe small --data data --out run --epochs 1 --batch-size 6 --warmup-epochs 0 "
        "--model.depth 1 --preprocessing.mean [0,0,0] --preprocessing.std [1,1,1]",
        "evaluate model.keras --data data",
    ],
)
def test_commands_say_nothing_of_it(line, folder, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    warnings.simplefilter("always")
    assert main(line.split()) == 0
    assert capfd.readouterr().err == ""


OTHER_LINES = (
    "F0000 00:00:1795870822.322277   16131 tensor.cc:31] Check failed: 1 == 2",
    "E0000 00:00:1795870822.322277   16131 cuda_dnn.cc:31] Loaded runtime CuDNN library: 9.1.0",
    "*** Check failure stack trace: ***",
    "Fatal Python error: Segmentation fault",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "free(): invalid pointer",
    "host:12:34 [0] NCCL WARN Call to connect failed",
    "[W1124 10:00:00.000 socket.cpp:464] Warning: the server socket has failed",
    "Traceback (most recent call last):",
    "ValueError: images: expected shape (n, 4, 4, 3), got (1, 2)",
    "keras-t2t: error: Corrupt JPEG data",
    "",
)


def test_other_lines_pass(capfd):
    text = "".join(f"{line}\n" for line in OTHER_LINES)
    with without_decoder_lines():
        os.write(2, b"Corrupt JPEG data: 2 extraneous bytes before marker 0xd9\n" + text.encode())
    assert capfd.readouterr().err == text


CRASHING = """
import os, sys
from keras_t2t.commands.console import without_decoder_lines

with without_decoder_lines():
    print(sys.stderr.fileno() != 2, "in Python", file=sys.stderr)
    os.write(2, b"Bogus marker length\\nlast words\\n")
    os.abort()
"""


def test_last_words_of_a_crash_pass():
    result = subprocess.run([sys.executable, "-c", CRASHING], cwd=ROOT, capture_output=True)
    assert result.returncode < 0
    assert result.stderr.decode() == "True in Python\nlast words\n"


def test_without_any_stderr():
    code = "from keras_t2t.commands.main import main; main(['check-data', 'nothing'])"
    closed = f'exec 2>&-; {sys.executable} -c "{code}"; echo $?'
    result = subprocess.run(["sh", "-c", closed], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.endswith("\n0\n")


@pytest.mark.parametrize(
    ("mode", "transparency"),
    [("P", bytes([0, 100] * 8)), ("P", 3), ("L", 3), ("RGB", (1, 2, 3)), ("1", 1), ("RGBA", None)],
)
def test_transparency_changes_no_pixel(mode, transparency, tmp_path):
    image, path = Image.fromarray(photos(1, (48, 64))[0]), tmp_path / "a.png"
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    image.save(path, **({} if transparency is None else {"transparency": transparency}))
    for target in ("RGB", "L"):
        with warnings.catch_warnings(action="error"):
            found = load_image(path).convert(target)
        with warnings.catch_warnings(action="ignore"):
            expected = Image.open(path).convert(target)
        np.testing.assert_array_equal(found, expected)
