"""Checkpoint files, read and written as `{published key: array}`; nothing in a file is ever run."""

import argparse
import contextlib
import functools
import io
import json
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import ml_dtypes  # noqa: F401  gives NumPy the bfloat16 that safetensors asks it for
import numpy as np
import safetensors.numpy

from keras_t2t.extras import install_command, require
from keras_t2t.files import replacing
from keras_t2t.limits import is_zip, refuse_expansion, refuse_zip_bomb
from keras_t2t.seal import seal, verify_archive
from keras_t2t.weights.notes import Notes

# Older releases can be made to run code or corrupt memory by a file even when told to read weights
# only: CVE-2025-32434 (before 2.6) and CVE-2026-24747 (before 2.10).
_OLDEST_SAFE_TORCH = (2, 10)

# The entry of a safetensors file's metadata, and the attribute of a `.weights.h5` file, for the
# notes in JSON.
NOTES = "keras_t2t"
_CRC32 = "keras_t2t_crc32"  # of the notes too


def read_checkpoint(path: str | os.PathLike, ema: bool = True) -> dict[str, np.ndarray]:
    """Reads the arrays of a checkpoint file.

    PyTorch files may hold the state dict bare or under `state_dict_ema`, `state_dict` or `net`, in
    the zip or the legacy format, beside an `argparse.Namespace` and optimizer state (which are
    ignored). Memory is not copied where the file can be mapped: do not change the file in place
    while the arrays live.

    Args:
        path: str or path, a `.safetensors` or `.npz` file; every other suffix (`.pth`, `.pth.tar`)
            is read as a PyTorch file.
        ema: bool, True (as the published accuracies are obtained) takes `state_dict_ema` and falls
            back to `state_dict`, `net`, then a bare state dict; False starts at `state_dict`.

    Returns:
        dict of str to NumPy array, in the order of the file, a leading `module.` taken off each
        key. float16 and bfloat16 become float32; other types stay.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, holds no state dict, or asks for code to
            be run.
        ImportError: PyTorch, needed for its files only, is not installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint file {path}")
    readers = {".npz": _npz_items, ".safetensors": _safetensors_items}
    read = readers.get(path.suffix.lower(), functools.partial(_torch_items, ema=ema))
    arrays = {}
    for key, array in read(path):
        key = re.sub(r"^(module\.)+", "", key)
        if key in arrays:
            raise ValueError(f"{path} holds {key!r} twice, with and without the prefix 'module.'")
        if array.dtype.name in ("float16", "bfloat16"):
            array = array.astype("float32")
        require_number(array, key, path)
        arrays[key] = array
    if not arrays:
        raise ValueError(f"{path} holds no tensors")
    return arrays


def read_checkpoint_notes(path: Path) -> Notes:
    """The notes that `write_checkpoint` put into a file, empty where there are none.

    Raises:
        ValueError: the file is damaged.
    """
    if path.suffix.lower() != ".safetensors":
        return Notes()
    with _opened_safetensors(path) as file:
        text = (file.metadata() or {}).get(NOTES, "{}")
    return Notes.from_json(text, path)


def write_checkpoint(path: str | os.PathLike, arrays, overwrite=False, notes=None) -> Path:
    """Writes arrays as a bare PyTorch state dict, a safetensors file or an npz file, bit for bit.

    Args:
        path: str or path, ending in `.pth`, `.pth.tar`, `.safetensors` or `.npz`. The file appears
            under this name only when it is complete.
        arrays: mapping of str to NumPy array (real numbers, integers or booleans).
        overwrite: bool, whether an existing file may be replaced. Defaults to False.
        notes: `Notes` that belong to the arrays, or None. Only safetensors files have a place for
            them. Files of all kinds have checksums, which reading verifies.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        FileExistsError: the file exists and `overwrite` is False.
        FileNotFoundError: the folder does not exist.
        OSError: the file cannot be written.
        ValueError: the suffix is another, or a value cannot be stored.
        ImportError: PyTorch, needed for its files only, is not installed.
    """
    path = Path(path).expanduser()
    writers = {".pth": _write_torch, ".pth.tar": _write_torch}
    writers |= {".safetensors": _write_safetensors, ".npz": _write_npz}
    suffix = next((suffix for suffix in writers if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise ValueError(f"path is {path}. Expected a name that ends in {', '.join(writers)}.")
    if not arrays:
        raise ValueError("arrays is empty. Expected at least one array.")
    stored = {}
    for key, array in arrays.items():
        array = np.asarray(array)
        require_number(array, key, "arrays")
        # The formats take contiguous arrays in the byte order of the machine.
        stored[key] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    with replacing(path, overwrite) as temporary:
        writers[suffix](temporary, stored, notes)
    return path


def torch_format(path: str | os.PathLike) -> str:
    """`"zip"` or `"legacy"`, from the first and last bytes of a PyTorch file, without PyTorch.

    Args:
        path: str or path of an existing file.

    Returns:
        str.

    Raises:
        ValueError: the file is empty, cut short or something else, such as a web page.
    """
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"{path} is empty")
    if start.startswith(b"PK"):
        # The directory of a zip file stands at its end: where it is missing, so is the end.
        if not is_zip(path):
            raise ValueError(f"{path} is cut short")
        return "zip"
    if start.startswith(b"\x80"):
        return "legacy"
    raise ValueError(f"{path} is not a PyTorch file: it starts with {start[:24]!r}")


def _torch_items(path, ema):
    mmap = torch_format(path) == "zip"
    if mmap:
        refuse_zip_bomb(path)
        _verify_zip(path)
    torch = import_torch()
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # a hostile or damaged file can fail in any way
        raise ValueError(f"{path} {_torch_refusal(error)}") from None
    state = _state_dict(content, ema, path)
    del content  # its other entries may be as large
    for key, tensor in state.items():
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(
                f"{path} holds no state dict: expected a tensor under each name, found "
                f"{type(tensor).__name__} under {key!r:.100}"
            )
    # Tensors may share what they are of, or repeat one number by a stride of 0.
    refuse_expansion(path, sum(tensor.numel() * tensor.itemsize for tensor in state.values()))
    for key in list(state):
        tensor = state.pop(key)
        if tensor.dtype == torch.bfloat16:  # which NumPy lacks
            tensor = tensor.float()
        try:
            array = tensor.detach().numpy()
        except (RuntimeError, TypeError):
            raise ValueError(
                f"{path} holds a tensor without a NumPy equivalent under {key!r}: {tensor.dtype}, "
                f"{tensor.layout}"
            ) from None
        del tensor
        yield key, array


def _verify_zip(path):
    """Raises ValueError unless what is in a zip file has the checksums that the file gives it.

    Memory that is mapped is never compared with them.
    """
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except Exception as error:  # a hostile or damaged file can fail in any way
        damaged = error
    if damaged is not None:
        raise ValueError(f"{path} is damaged ({damaged})")


def _torch_refusal(error):
    """What a failure of torch.load means. Its own text advises to read the file unsafely."""
    name = re.search(r"GLOBAL ([\w.]+)", str(error))
    if name:
        return (
            f"asks for {name[1]}, which a checkpoint has no need of, so it was refused and nothing "
            "in it was run"
        )
    if isinstance(error, MemoryError):
        return "does not fit in memory"
    return "cannot be read as a PyTorch file: it is damaged or holds more than tensors and numbers"


def _state_dict(content, ema, path):
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}. Expected a dict of tensors.")
    names = ("state_dict_ema", "state_dict", "net") if ema else ("state_dict", "net")
    for name in names:
        if isinstance(content.get(name), dict):
            return content[name]
    if isinstance(content.get("state_dict_ema"), dict):
        raise ValueError(f"{path} holds averaged weights only (state_dict_ema). Expected ema=True.")
    return content


def import_torch() -> ModuleType:
    """PyTorch, of a release that reads files safely.

    Raises:
        ImportError: there is none; the message says how to install it.
    """
    require("convert", "torch")
    import torch

    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < _OLDEST_SAFE_TORCH:
        raise ImportError(
            f"PyTorch {torch.__version__} does not read files safely (CVE-2026-24747). Expected "
            f"2.10 or newer: {install_command('convert')}"
        )
    return torch


def _safetensors_items(path):
    with _opened_safetensors(path) as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}
        metadata = file.metadata() or {}
    if _CRC32 in metadata and metadata[_CRC32] != _file_checksum(arrays, metadata):
        raise ValueError(f"{path} is damaged: its checksum is wrong")
    return arrays.items()


@contextlib.contextmanager
def _opened_safetensors(path):
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            yield file
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a safetensors file: {error}") from None


def _npz_items(path):
    refusal = ValueError(
        f"{path} cannot be read as an npz file of plain arrays: it is damaged, of another kind or "
        "holds Python objects, which are never loaded"
    )
    if not is_zip(path):
        raise refusal
    verify_archive(path)
    refuse_zip_bomb(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except Exception:
        raise refusal from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise refusal  # NumPy gives the bytes of what else is in a zip file
    return arrays.items()


def require_number(array: np.ndarray, key: str, source: object) -> None:
    """Raises ValueError for an array of what NumPy, PyTorch and safetensors do not all store."""
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise ValueError(
            f"{source} holds dtype {array.dtype} under {key!r}. Expected real numbers of at most "
            "64 bits, or booleans."
        )


def checksum(arrays: Iterable) -> int:
    """The CRC-32 of the arrays' bytes, one after another."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
    return crc


def _write_torch(path, arrays, notes):
    torch = import_torch()
    buffer = io.BytesIO()  # to a full disk PyTorch writes with errors of its own, not OSError
    with warnings.catch_warnings():
        # from_numpy warns of read-only arrays, which are only read here.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        torch.save({key: torch.from_numpy(array) for key, array in arrays.items()}, buffer)
    path.write_bytes(buffer.getbuffer())


def _write_safetensors(path, arrays, notes):
    metadata = {} if notes is None else {NOTES: notes.to_json()}
    metadata[_CRC32] = _file_checksum(arrays, metadata)
    # Not save_file, whose files only their owner may read.
    path.write_bytes(safetensors.numpy.save(arrays, metadata))


def _file_checksum(arrays, metadata):
    # The format has an order of its own.
    keys = sorted(arrays)
    described = [(key, arrays[key].dtype.str, arrays[key].shape) for key in keys]
    header = json.dumps([metadata.get(NOTES), *described]).encode()
    return str(checksum([np.frombuffer(header, "uint8"), *(arrays[key] for key in keys)]))


def _write_npz(path, arrays, notes):
    with open(path, "w+b") as file:
        np.savez(file, **arrays)
        seal(file)
