"""Image files, whatever their format, to 8-bit pixels that stand upright."""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def load_image(path):
    """Reads the first frame of an image file, upright as its EXIF orientation says.

    Args:
        path: A file of any format that Pillow reads.

    Returns:
        A `PIL.Image.Image` with 8 bits a channel, in the file's own mode; `convert("RGB")` makes
        colour of grey, palette, CMYK and transparent images alike.

    Raises:
        ValueError: One line that names the file, whatever is wrong with it.
    """
    try:
        with Image.open(path) as file:
            return eight_bits(ImageOps.exif_transpose(file))
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not an image of a known format") from error
    # What a broken file makes Pillow's decoders raise is not limited to a few classes.
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"{path}: cannot be read as an image ({reason})") from error


def eight_bits(image):
    """Returns a Pillow image scaled from 16 to 8 bits; an 8-bit one as it is.

    Pillow's own `convert` clips 16-bit pixels at 255, which leaves the image white.

    Raises:
        ValueError: If the pixels are floats, or integers outside 0..65535.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels have no defined range")
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("pixels of more than 16 bits have no defined range")
    return Image.fromarray((pixels >> 8).astype("uint8"))
