"""Weights of a T2T-ViT in Keras' own files, `.weights.h5` and `.keras`."""

import contextlib
import dataclasses
import json
import math
import warnings
import zlib
from pathlib import Path

import h5py
import keras
import numpy as np

from keras_t2t.data.preprocessing import Preprocessing, carried_preprocessing
from keras_t2t.files import replacing
from keras_t2t.models.t2t_vit import SOFT_SPLITS
from keras_t2t.weights.mapping import published_slots
from keras_t2t.weights.unfilled import build_unfilled

# The attribute of a `.weights.h5` file in which `write_weights` notes what belongs to the weights.
NOTES = "keras_t2t"


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
        ValueError: the model is no T2T-ViT.
    """
    preprocessing = carried_preprocessing(model)
    notes = {
        "variant": variant,
        "input_shape": model.input_shape[1:],
        "preprocessing": preprocessing and dataclasses.asdict(preprocessing),
        "crc32": _checksum(model),
    }
    with replacing(Path(path).expanduser(), overwrite) as temporary:
        model.save_weights(temporary)
        with h5py.File(temporary, "r+") as file:
            file.attrs[NOTES] = json.dumps(notes)


def write_model(path, model, overwrite=False):
    """Writes a whole model as `.keras`, as `write_weights` does."""
    with replacing(Path(path).expanduser(), overwrite) as temporary:
        model.save(temporary)


def read_notes(path):
    """What `write_weights` noted in a `.weights.h5` file: a dict, empty if it is of other making.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or of another kind.
    """
    with _opened(path) as file:
        return json.loads(file.attrs.get(NOTES, "{}"))


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
    input_shape = notes.get("input_shape") or square_input_shape(positions, patch, arguments)
    preprocessing = notes.get("preprocessing")
    with float32_policy():
        model = build_unfilled(
            {
                **arguments,
                "input_shape": input_shape or arguments["input_shape"],
                "input_tensor": None,
                "include_top": head is not None,
                "classes": classes,
                "pooling": None,
                "preprocessing": preprocessing and Preprocessing(**preprocessing),
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
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # the zip, HDF5 or JSON reader or any layer
        raise ValueError(f"{path} cannot be read as a Keras model: {error}") from None


def square_input_shape(positions, patch, arguments):
    """The published stem's input for weights of these shapes, if its grid is a square, else None.

    Args:
        positions: Shape `(1, 1 + patches, channels)` of the table of positions.
        patch: Shape `(49 * channels,)` of the first norm.
        arguments: dict, arguments of `T2TViT`. With soft splits of their own None is returned.
    """
    side = math.isqrt(positions[1] - 1)
    if side * side != positions[1] - 1 or "soft_splits" in arguments:
        return None
    (kernel, _, _), *_ = SOFT_SPLITS
    stride = math.prod(stride for _, stride, _ in SOFT_SPLITS)
    return (side * stride, side * stride, patch[0] // kernel**2)


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
