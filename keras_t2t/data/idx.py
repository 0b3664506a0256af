"""IDX files, the format of MNIST and Fashion-MNIST."""

import gzip
import math
from pathlib import Path

import numpy as np

# Of the images and the labels of each split.
IDX_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "validation": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def read_idx(path: Path) -> np.ndarray:
    """The array in a gzipped IDX file of unsigned bytes.

    Raises:
        ValueError: If the file is damaged or of another kind.
        OSError: If it cannot be read.
    """
    try:
        return parse_idx(gzip.decompress(path.read_bytes()), str(path))
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: is not a complete gzip file ({error})") from error


def parse_idx(data: bytes, name: str) -> np.ndarray:
    """The array in the bytes of an IDX file; `name` is what messages call it."""
    # Two zero bytes, the type (8 is unsigned byte), the number of dimensions; then the sizes.
    dimensions = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    header = 4 + 4 * dimensions
    if not dimensions or len(data) < header:
        raise ValueError(
            f"{name}: expected an IDX file of unsigned bytes, got one that begins with "
            f"{data[:4].hex(' ') or 'nothing'}"
        )
    shape = tuple(np.frombuffer(data, ">u4", dimensions, 4).tolist())
    if len(data) - header != math.prod(shape):
        raise ValueError(
            f"{name}: its header says {shape}, but it holds {len(data) - header} values"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
