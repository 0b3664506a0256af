"""Files of every kind become upright 8-bit pixels or one clear error."""

import numpy as np
import pytest
from PIL import Image

from keras_t2t.image_files import load_image

RED = (200, 30, 40)


def rgb(path):
    return np.asarray(load_image(path).convert("RGB"))


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.png", "RGB"),
        ("a.png", "RGBA"),
        ("a.png", "P"),
        ("a.gif", "P"),
        ("a.bmp", "RGB"),
        ("a.webp", "RGB"),
        ("a.tif", "RGB"),
        ("a.jpg", "RGB"),
        ("a.jpg", "CMYK"),
    ],
)
def test_colour(tmp_path, name, mode):
    image = Image.new("RGB", (32, 24), RED)
    if mode == "P":
        image = image.quantize(4)
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(tmp_path / name)
    result = rgb(tmp_path / name)
    assert result.shape == (24, 32, 3)
    # JPEG and WebP are lossy.
    np.testing.assert_allclose(result.astype(int), np.broadcast_to(RED, result.shape), atol=6)


def test_grey(tmp_path):
    Image.new("L", (8, 6), 77).save(tmp_path / "a.png")
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), np.full((6, 8, 3), 77))


def test_the_colour_under_transparency_counts(tmp_path):
    Image.new("RGBA", (8, 6), (*RED, 0)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), np.broadcast_to(RED, (6, 8, 3)))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits(tmp_path, suffix):
    grey = np.arange(256).reshape(16, 16)
    Image.fromarray((grey * 257).astype("uint16")).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(rgb(tmp_path / f"a.{suffix}")[..., 0], grey)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_stands_upright(tmp_path, suffix):
    """Orientation 6: the camera was turned, and the first row of the file is the right side."""
    pixels = np.zeros((16, 32, 3), "uint8")
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=exif)
    result = rgb(tmp_path / f"a.{suffix}")
    assert result.shape == (32, 16, 3)
    assert result[:, 8:].min() > 250
    assert result[:, :8].max() < 5


def test_first_frame(tmp_path):
    frames = [Image.new("L", (8, 8), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.unique(rgb(tmp_path / "a.gif")) == [10]


def test_files_that_cannot_be_read(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.jpg")
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    for name in ("jpg", "png"):
        whole = (tmp_path / f"whole.{name}").read_bytes()
        (tmp_path / f"cut.{name}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    Image.new("F", (4, 4)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((4, 4), 70_000, "int32")).save(tmp_path / "deep.tif")
    reasons = {
        "cut.jpg": "truncated",
        "cut.png": "truncated",
        "text.jpg": "not an image of a known format",
        "empty.png": "not an image of a known format",
        "folder.png": "Is a directory",
        "missing.png": "No such file or directory",
        "float.tif": "floating-point pixels",
        "deep.tif": "more than 16 bits",
    }
    for name, reason in reasons.items():
        with pytest.raises(ValueError, match=reason) as error:
            load_image(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: ")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", ["EPS", "BLP", "DDS", "ICNS", "ICO", "JPEG2000", "PCX", "PPM"])
def test_only_promised_formats_are_opened(tmp_path, form):
    Image.new("P" if form == "BLP" else "RGB", (16, 16)).save(tmp_path / "a.jpg", form)
    with Image.open(tmp_path / "a.jpg") as image:  # as Pillow does, unless it is told the formats
        assert image.format == form
    with pytest.raises(ValueError, match="not an image of a known format"):
        load_image(tmp_path / "a.jpg")
