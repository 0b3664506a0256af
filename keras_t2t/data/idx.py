"""IDX files, the format of MNIST and Fashion-MNIST."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from keras_t2t.limits import refuse_expansion

# Of the images and the labels of each split.
IDX_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "validation": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}

_LONGEST_HEADER = 4 + 4 * 255


def read_idx(path: Path) -> np.ndarray:
    """The array in a gzipped IDX file of unsigned bytes.

    Raises:
        ValueError: If the file is damaged or of another kind.
        OSError: If it cannot be read.
    """
    try:
        with gzip.open(path) as file:
            data = file.read(_LONGEST_HEADER)
            shape, start = _shape(data, str(path))
            size = math.prod(shape)
            refuse_expansion(path, size)
            # A byte too many tells that there are more than the header says.
            data += file.read(max(0, start + size + 1 - len(data)))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: is not a complete gzip file ({error})") from error
    return parse_idx(data, str(path))


def parse_idx(data: bytes, name: str) -> np.ndarray:
    """The array in the bytes of an IDX file; `name` is what messages call it."""
    shape, start = _shape(data, name)
    held, size = len(data) - start, math.prod(shape)
    if held != size:
        held = f"more than {size}" if held > size else held
        raise ValueError(f"{name}: its header says {shape}, but it holds {held} values")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _shape(data, name):
    """The shape that a header tells, and where the values begin."""
    # Two zero bytes, the type (8 is unsigned byte), the number of dimensions; then the sizes.
    dimensions = data[3] if data[:3] == b"\0\0\x08" and len(data) > 3 else 0
    start = 4 + 4 * dimensions
    if not dimensions or len(data) < start:
        raise ValueError(
            f"{name}: expected an IDX file of unsigned bytes, got one that begins with "
            f"{data[:4].hex(' ') or 'nothing'}"
        )
    return tuple(np.frombuffer(data, ">u4", dimensions, 4).tolist()), start
