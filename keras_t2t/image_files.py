"""Image files: where they are, and what is in them as 8-bit pixels that stand upright."""

import collections
import glob
import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Pillow's names of what is opened, whatever a file is called: for others, such as EPS, Pillow may
# start programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")


def find_images(sources: Iterable[str | os.PathLike]) -> tuple[list[str], list[str]]:
    """Lists the image files behind files, folders and glob patterns.

    Args:
        sources: Paths. A folder stands for the files in it and its subfolders that have one of
            `IMAGE_SUFFIXES`; in a pattern, such as `"photos/*.jpg"`, `**` stands for any folders.

    Returns:
        (images, problems): the paths, in the order of `sources`, and one line for each source
        that brings none.
    """
    images, problems = [], []
    for source in [os.fspath(source) for source in sources]:
        # The name of a file may hold the characters of a pattern.
        matches = [source] if os.path.exists(source) else sorted(glob.glob(source, recursive=True))
        found = []
        for match in matches:
            found += files_below(match) if os.path.isdir(match) else [match]
        images += found
        if not found:
            problems.append(f"{source}: {'holds no images' if matches else 'no such file'}")
    return images, problems


def load_image(path) -> Image.Image:
    """Reads the first frame of an image file, upright as its EXIF orientation says.

    Args:
        path: A file in one of `FORMATS`, its path or the open file.

    Returns:
        A `PIL.Image.Image` with 8 bits a channel, in the file's own mode; `convert("RGB")` makes
        colour of grey, palette, CMYK and transparent images alike.

    Raises:
        ValueError: One line that names the file, whatever is wrong with it.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            image = eight_bits(ImageOps.exif_transpose(file))
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path}: not an image of a known format ({', '.join(FORMATS)})"
        ) from error
    # What a broken file makes Pillow's decoders raise is not limited to a few classes.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"{path}: cannot be read as an image ({reason})") from error
    # `convert` leaves it out, and warns of some of its kinds.
    image.info.pop("transparency", None)
    return image


def eight_bits(image: Image.Image) -> Image.Image:
    """Returns a Pillow image scaled from 16 to 8 bits; an 8-bit one as it is.

    Pillow's own `convert` clips 16-bit pixels at 255, which leaves the image white.

    Raises:
        ValueError: If the pixels are floats, or integers outside 0..65535.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    if not image.mode.startswith("I"):
        return image
    import numpy as np  # Here, because commands look for images before they load anything.

    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("pixels of more than 16 bits have no defined range")
    return Image.fromarray((pixels >> 8).astype("uint8"))


def files_below(folder: str | os.PathLike) -> list[str]:
    """The paths of the image files in a folder and its subfolders, sorted; links are followed.

    What is hidden, as `is_hidden` has it, is left out.
    """
    return sort_files(folder)[0]


def sort_files(folder: str | os.PathLike) -> tuple[list[str], collections.Counter[str]]:
    """What `files_below` returns, and how many other files that are not hidden, by their suffix."""
    images, others = [], collections.Counter()
    for path in _visible_files(folder):
        if path.lower().endswith(IMAGE_SUFFIXES):
            images.append(path)
        else:
            others[os.path.splitext(path)[1].lower()] += 1
    return sorted(images), others


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's, such as `.git`."""
    return name.startswith(".") or name == "__MACOSX"


def _visible_files(folder):
    for where, folders, files in os.walk(Path(folder), followlinks=True):
        folders[:] = [name for name in folders if not is_hidden(name)]
        yield from (os.path.join(where, name) for name in files if not is_hidden(name))
