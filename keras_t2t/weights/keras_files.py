"""Weights of a T2T-ViT in Keras' own files, `.weights.h5` and `.keras`."""

import contextlib
import dataclasses
import io
import json
import math
import warnings
import zipfile
import zlib
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_t2t.files import replacing
from keras_t2t.models.t2t_vit import SOFT_SPLITS
from keras_t2t.models.variants import VARIANTS
from keras_t2t.preprocessing import Preprocessing
from keras_t2t.preprocessing_layer import carried_preprocessing
from keras_t2t.weights.checkpoint import NOTES
from keras_t2t.weights.mapping import published_slots
from keras_t2t.weights.unfilled import build_unfilled


def write_weights(path, model, variant=None, overwrite=False):
    """Writes a model's weights as `.weights.h5`, with a checksum and what belongs to the weights.

    Args:
        path: str or path, ending in `.weights.h5`. The file appears under this name only when it is
            complete.
        model: A model that `T2TViT` built.
        variant: str or None, the published name of the model's variant.
        overwrite: bool, whether an existing file may be replaced.

    Raises:
        FileExistsError: the file exists and `overwrite` is False.
        FileNotFoundError: the folder does not exist.
        OSError: the file cannot be written.
        ValueError: the model is no T2T-ViT.
    """
    notes = {**notes_of(model, variant), "crc32": _checksum(model)}
    content = _WeightsInMemory()
    model.save_weights(content)
    with h5py.File(content, "r+") as file:
        file.attrs[NOTES] = json.dumps(notes)
    with replacing(Path(path).expanduser(), overwrite) as temporary:
        temporary.write_bytes(content.getbuffer())


class _WeightsInMemory(io.BytesIO):
    """What HDF5 writes to, because its own writing to a full disk ends the process.

    Keras takes it for a file of the name that it shows.
    """

    def __str__(self):
        return "memory.weights.h5"


def notes_of(model, variant):
    """What a file should tell of a model beside its weights, as JSON takes it."""
    preprocessing = carried_preprocessing(model)
    return {
        "variant": variant,
        "input_shape": model.input_shape[1:],
        "grid": model.get_layer("projection").output.shape[1:3],
        "preprocessing": preprocessing and dataclasses.asdict(preprocessing),
    }


def checked_notes(path, notes):
    """Notes as read from a file: what it does not tell is None, the rest as `notes_of` got it.

    Raises:
        ValueError: they are of no use.
    """
    try:
        notes = {**dict.fromkeys(("variant", "input_shape", "grid", "preprocessing")), **notes}
        if notes["variant"] not in (None, *VARIANTS):
            raise ValueError("unknown variant")
        for name in ("input_shape", "grid"):
            notes[name] = notes[name] and tuple(notes[name])
        notes["preprocessing"] = notes["preprocessing"] and Preprocessing(**notes["preprocessing"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its notes cannot be used ({error})") from None
    return notes


def write_model(path, model, overwrite=False):
    """Writes a whole model as `.keras`, as `write_weights` does."""
    with replacing(Path(path).expanduser(), overwrite) as temporary:
        model.save(temporary)


def read_notes(path):
    """What `write_weights` noted in a `.weights.h5` file, see `checked_notes`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another kind.
    """
    with _opened(path) as file:
        notes = json.loads(file.attrs.get(NOTES, "{}"))
    return checked_notes(path, notes)


def read_weights(path, arguments):
    """Reads a `.weights.h5` file into a model with the file's classes, image size and channels.

    Args:
        path: str or path of a file that `write_weights` or Keras' `save_weights` wrote.
        arguments: dict, arguments of `T2TViT`, which tell the architecture.

    Returns:
        `keras.Model`, which carries its preprocessing if the file does.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind or of another architecture.
    """
    notes = read_notes(path)
    with _opened(path) as file:
        layers = file["layers"]
        positions = layers["sinusoid_positions/vars/0"].shape
        patch = layers["t2t_block/norm1/vars/0"].shape
        # Keras counts the layers of a class: the projection, the dense flavour's transitions, then
        # the head.
        depth = arguments.get("depth")
        head = layers.get(f"dense_{len(depth) if isinstance(depth, tuple) else 1}/vars/1")
        classes = None if head is None else head.shape[0]
        stored = []
        layers.visititems(lambda name, item: stored.append(name) if "/vars/" in name else None)
    input_shape = notes["input_shape"] or square_input_shape(path, positions, patch, arguments)
    input_shape = input_shape or arguments.get("input_shape")
    if input_shape is None:
        raise ValueError(
            f"{path} does not tell the size of its images. Expected input_shape="
            "(height, width, channels), which keras_t2t.create takes, received None."
        )
    with float32_policy():
        model = build_unfilled(
            {
                **arguments,
                "input_shape": input_shape,
                "input_tensor": None,
                "include_top": head is not None,
                "classes": classes,
                "pooling": None,
                "preprocessing": notes["preprocessing"],
                # So that Keras' own random state is left as it was.
                "seed": 0,
            }
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Keras misses is an error here
            model.load_weights(path)
    except Exception:  # Keras and HDF5 fail in many ways, at length
        raise ValueError(f"{path} is damaged or holds the weights of another model") from None
    if len(stored) != len(published_slots(model)):
        raise ValueError(
            f"{path} holds the weights of another model: {len(stored)} arrays, expected "
            f"{len(published_slots(model))}"
        )
    if "crc32" in notes and notes["crc32"] != _checksum(model):
        raise ValueError(f"{path} is damaged: its checksum is wrong")
    return model


def read_model(path):
    """Reads a `.keras` file, without its optimizer.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another kind, or asks for code to be run.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no model file {path}")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} cannot be read as a Keras model: it is cut short or something else"
        )
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # the zip, HDF5 or JSON reader or any layer
        raise ValueError(f"{path} cannot be read as a Keras model: {error}") from None


def square_input_shape(name, positions, patch, arguments):
    """The published stem's input for weights of these shapes, if its grid is a square, else None.

    Args:
        name: What messages call the weights.
        positions: Shape `(1, 1 + patches, channels)` of the table of positions.
        patch: Shape `(49 * channels,)` of the first norm.
        arguments: dict, arguments of `T2TViT`. With soft splits of their own None is returned.

    Raises:
        ValueError: the weights have soft splits of their own, and the arguments do not.
    """
    if "soft_splits" in arguments:
        return None
    (kernel, _, _), *_ = SOFT_SPLITS
    channels, rest = divmod(patch[0], kernel**2)
    if rest:
        raise ValueError(
            f"{name} is of a model with other soft splits than the published: the first takes "
            f"patches of {patch[0]} values, expected {kernel**2} for each channel. "
            "keras_t2t.create takes its soft_splits and input_shape."
        )
    side = math.isqrt(max(0, positions[1] - 1))
    if not side or side * side != positions[1] - 1:
        return None
    stride = math.prod(stride for _, stride, _ in SOFT_SPLITS)
    return (side * stride, side * stride, channels)


def _checksum(model):
    crc = 0
    for slot in published_slots(model).values():
        array = keras.ops.convert_to_numpy(slot.variable)
        crc = zlib.crc32(np.ascontiguousarray(array), crc)
    return crc


@contextlib.contextmanager
def _opened(path):
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {path}")
    try:
        with h5py.File(path) as file:
            yield file
    except Exception:  # h5py has no exceptions of its own
        raise ValueError(f"{path} is damaged or holds no weights of a T2T-ViT") from None


@contextlib.contextmanager
def float32_policy():
    """The files hold float32, whatever the user computes in."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
