"""Weights of a T2T-ViT in Keras' own files, `.weights.h5` and `.keras`."""

import collections
import dataclasses
import functools
import io
import json
import math
import os
import warnings
import zipfile
from pathlib import Path
from typing import cast

import h5py
import keras
import numpy as np

from keras_t2t.files import replacing
from keras_t2t.layers import TokenPooling
from keras_t2t.limits import (
    LONGEST_TEXT,
    MOST_LAYERS,
    TooLarge,
    is_zip,
    refuse_expansion,
    refuse_zip_bomb,
)
from keras_t2t.models.graph import token_grid
from keras_t2t.models.t2t_vit import SOFT_SPLITS
from keras_t2t.weights.building import Network, build_unfilled
from keras_t2t.weights.checkpoint import NOTES, checksum
from keras_t2t.weights.mapping import published_slots, published_views
from keras_t2t.weights.notes import Notes, Shape, Weights, infer_input_shape


def read_model(path: str | os.PathLike) -> keras.Model:
    """Reads a `.keras` file, without its optimizer.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, asks for code to be run, or for more
            memory or layers than it deserves.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no model file {path}")
    if not is_zip(path):
        raise ValueError(
            f"{path} cannot be read as a Keras model: it is cut short or something else"
        )
    refuse_zip_bomb(path)
    try:
        _refuse_large(path)
        return cast(keras.Model, keras.saving.load_model(path, compile=False, safe_mode=True))
    except TooLarge:
        raise
    except Exception as error:  # the zip, HDF5 or JSON reader or any layer
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as a Keras model: {reason}") from None


def _refuse_large(path):
    """Raises a ValueError for a model or arrays that a small file can ask for in large."""
    with zipfile.ZipFile(path) as file:
        if file.getinfo("config.json").file_size > LONGEST_TEXT:
            raise ValueError(f"expected a config.json of at most {LONGEST_TEXT} bytes")
        config = {**json.loads(file.read("config.json")), "compile_config": None}
        layers = _layers(config)
        if layers > MOST_LAYERS:
            raise ValueError(f"expected at most {MOST_LAYERS} layers, got {layers}")
        weights = file.open("model.weights.h5")
        if file.getinfo(weights.name).compress_type != zipfile.ZIP_STORED:
            weights = io.BytesIO(weights.read())  # for HDF5 goes to and fro
        with h5py.File(weights) as arrays:
            refuse_expansion(path, sum(size for *_, size in _datasets(arrays)))
    with keras.StatelessScope(initialize_variables=False):  # in which no variable gets a value
        model = cast(keras.Model, keras.saving.deserialize_keras_object(config, safe_mode=True))
    sizes = [math.prod(weight.shape) * np.dtype(weight.dtype).itemsize for weight in model.weights]
    refuse_expansion(path, sum(sizes))


def _layers(config):
    """How many layers a configuration names, those of layers inside of layers too."""
    number, parts = 0, [config]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            layers = part.get("layers")
            number += len(layers) if isinstance(layers, list) else 0
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    return number


def _datasets(file):
    """(name, shape, bytes) of all arrays in an HDF5 file."""
    found = []

    def note(name, item):
        if isinstance(item, h5py.Dataset):
            found.append((name, item.shape, item.nbytes))

    file.visititems(note)
    return found


def write_model(path: Path, model: keras.Model, overwrite: bool = False) -> None:
    """Writes a whole model as `.keras`; the file appears under its name when it is complete."""
    with replacing(path, overwrite) as temporary:
        model.save(temporary)


def weights_of(name: str, model: keras.Model) -> Weights:
    """The weights of a model that `T2TViT` built, and what it tells of them."""
    arrays = published_views(model)
    if [layer.mode for layer in model.layers if isinstance(layer, TokenPooling)] != ["token"]:
        # A head on anything else is not the one that would be built for it.
        arrays = {key: array for key, array in arrays.items() if not key.startswith("head.")}
    return Weights(name, arrays, Notes.of(model))


def write_weights(path: Path, model: keras.Model, notes: Notes, overwrite: bool = False) -> None:
    """Writes a model's weights as `.weights.h5`, with a checksum and notes.

    Args:
        path: Path that ends in `.weights.h5`. The file appears under this name only when it is
            complete.
        model: A model that `T2TViT` built.
        notes: What belongs to the weights.
        overwrite: bool, whether an existing file may be replaced.

    Raises:
        FileExistsError: the file exists and `overwrite` is False.
        FileNotFoundError: the folder does not exist.
        OSError: the file cannot be written.
        ValueError: the model is no T2T-ViT.
    """
    content = _WeightsInMemory()
    model.save_weights(content)
    with h5py.File(content, "r+") as file:
        file.attrs[NOTES] = notes.to_json(crc32=_checksum(model))
    with replacing(path, overwrite) as temporary:
        temporary.write_bytes(content.getbuffer())


class _WeightsInMemory(io.BytesIO):
    """What HDF5 writes to, because its own writing to a full disk ends the process.

    Keras takes it for a file of the name that it shows.
    """

    def __str__(self):
        return "memory.weights.h5"


def read_weights_notes(path: Path) -> tuple[str, collections.Counter]:
    """What a `.weights.h5` file tells: its notes in JSON, and the shapes of its arrays, counted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another kind.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path}")
    try:
        with h5py.File(path) as file:
            datasets, text = _datasets(file), file.attrs.get(NOTES, "{}")
    except Exception:  # h5py has no exceptions of its own
        raise ValueError(f"{path} is damaged or holds no weights of a T2T-ViT") from None
    refuse_expansion(path, sum(size for *_, size in datasets))
    # The file of a compiled model holds the optimizer's arrays too.
    own = (shape for name, shape, _ in datasets if not name.startswith("optimizer"))
    return text, collections.Counter(own)


def read_weights(path: Path, build: Network, input_shape: Shape | None = None) -> Weights:
    """Reads a `.weights.h5` file through a model of its own, with its classes and image size.

    Args:
        path: Path of a file that `write_weights` or Keras' `save_weights` wrote.
        build: `T2TViT` with arguments filled in, which tell the architecture.
        input_shape: Tuple `(height, width, channels)`, what to take where neither the notes nor the
            positions tell.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind or of another architecture.
    """
    text, shapes = read_weights_notes(path)
    notes = Notes.from_json(text, path)
    shape = notes.input_shape or _infer_input_shape(path, shapes, build, input_shape)
    own = {"input_shape": shape, "input_tensor": None, "pooling": None, "preprocessing": None}
    own |= {"class_names": None}
    # With a seed, so that Keras' own random state is left as it was.
    build = functools.partial(build_unfilled, build, **own, seed=0)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # as the file, whatever the user computes in
    try:
        model = build(include_top=False)
        head = shapes - _shapes(model)  # (classes,) and (channels, classes), if there is one
        classes = next((shape[0] for shape in head if len(shape) == 1), None)
        if classes is not None:
            model = build(include_top=True, classes=classes)
    finally:
        keras.config.set_dtype_policy(policy)
    if _shapes(model) != shapes:
        raise ValueError(
            f"{path} holds the weights of another model: {shapes.total()} arrays, expected "
            f"{len(model.weights)} of other shapes"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Keras misses is an error here
            model.load_weights(path)
    except Exception:  # Keras and HDF5 fail in many ways, at length
        raise ValueError(f"{path} is damaged or holds the weights of another model") from None
    if json.loads(text).get("crc32") not in (None, _checksum(model)):
        raise ValueError(f"{path} is damaged: its checksum is wrong")
    notes = dataclasses.replace(notes, input_shape=shape, grid=token_grid(model))
    return Weights(str(path), published_views(model), notes)


def _shapes(model):
    return collections.Counter(tuple(variable.shape) for variable in model.weights)


def _infer_input_shape(path, shapes, build, given):
    # The positions are (1, tokens, channels); the first norm is (patch,), and (patch, units) the
    # linear layer behind it.
    positions = max((shape for shape in shapes if len(shape) == 3), default=(1, 0, 0))
    kernels = {shape[:1] for shape in shapes if len(shape) == 2}
    (kernel, _, _), *_ = SOFT_SPLITS
    patches = sorted(kernels & shapes.keys(), key=lambda shape: (shape[0] % kernel**2 > 0, shape))
    return infer_input_shape(str(path), positions, (*patches, (0,))[0], build, given)


def _checksum(model):
    slots = published_slots(model).values()
    return checksum(keras.ops.convert_to_numpy(slot.variable) for slot in slots)
