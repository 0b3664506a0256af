"""`weights=` of the factories: from a published name or a file to a model."""

import dataclasses
import logging
import os
from pathlib import Path

import numpy as np

from keras_t2t.layers import TokenPooling
from keras_t2t.models.variants import VARIANTS, with_defaults
from keras_t2t.preprocessing import PREPROCESSING, Preprocessing
from keras_t2t.preprocessing_layer import carried_preprocessing
from keras_t2t.weights.checkpoint import (
    import_torch,
    read_checkpoint,
    read_checkpoint_notes,
)
from keras_t2t.weights.download import cache_folder, fetch
from keras_t2t.weights.keras_files import (
    checked_notes,
    float32_policy,
    read_model,
    read_weights,
    square_input_shape,
    write_weights,
)
from keras_t2t.weights.loading import load_arrays, published_views
from keras_t2t.weights.published import PUBLISHED, find, tested_keys
from keras_t2t.weights.unfilled import build_unfilled

logger = logging.getLogger("keras_t2t")

SUFFIXES = (".pth", ".pth.tar", ".safetensors", ".npz", ".weights.h5", ".keras")


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights on their way into a model.

    Attributes:
        name: str, what messages call them.
        arrays: dict `{published key: array}`.
        input_shape: tuple `(height, width, channels)` of the model they are of, or None where they
            do not tell.
        grid: pair of ints, rows and columns of its patches, or None for a square.
        preprocessing: `Preprocessing` that belongs to them, or None where they do not tell.
        tested: bool, whether their keys are known, so that any other is an error.
    """

    name: str
    arrays: dict
    input_shape: tuple | None
    grid: tuple | None = None
    preprocessing: Preprocessing | None = None
    tested: bool = True

    @property
    def classes(self):
        """int, classes of their head, or None if they have no head."""
        for key in ("head.bias", "head.weight"):
            if np.ndim(self.arrays.get(key)):
                return len(self.arrays[key])
        return None


def open_weights(variant, weights, arguments):
    """Finds, and if need be fetches, weights for a variant.

    Args:
        variant: str, published name of the variant.
        weights: str or path, as `keras_t2t.create` takes it.
        arguments: dict, arguments of `T2TViT` for the model that is to be built.

    Returns:
        `Weights`.

    Raises:
        As `keras_t2t.create`.
    """
    if not isinstance(weights, (str, os.PathLike)):
        raise ValueError(
            "`weights` must be None, the name of published weights or the path of a file. "
            f"Received: weights={weights!r}"
        )
    if weights in PREPROCESSING:
        return _published(find(variant, weights))
    path = Path(weights).expanduser()
    if not path.name.endswith(SUFFIXES) and not path.is_file():
        find(variant, weights)  # which tells what there is
    if path.name.endswith(".keras"):
        return _of_model(str(path), read_model(path))
    if path.name.endswith(".weights.h5"):
        return _of_model(str(path), read_weights(path, arguments))
    notes = checked_notes(path, read_checkpoint_notes(path))
    return of_arrays(str(path), read_checkpoint(path), arguments, notes)


def build_pretrained(weights, arguments, skip_head=False):
    """Builds a model and fills it.

    Args:
        weights: `Weights`.
        arguments: dict, arguments of `T2TViT`; None for `input_shape` and `classes` means those of
            the weights.
        skip_head: bool, whether the head stays fresh.

    Returns:
        `keras.Model`.

    Raises:
        ValueError: the weights do not fit the arguments; the message says what to do.
    """
    if arguments["input_shape"] is None and arguments["input_tensor"] is None:
        if weights.input_shape is None:
            raise ValueError(
                f"{weights.name} does not tell the size of its images. Expected input_shape="
                "(height, width, channels), which keras_t2t.create takes, received None."
            )
    if arguments["include_top"] and not skip_head:
        classes = arguments["classes"]
        if weights.classes is None:
            raise ValueError(
                f"{weights.name} holds no head. Pass include_top=False, or skip_head=True and "
                "classes for a fresh one."
            )
        if classes not in (None, weights.classes):
            raise ValueError(
                f"classes={classes} does not fit {weights.name}, which has {weights.classes}. Pass "
                f"skip_head=True for a fresh head of {classes} classes on the other weights, or "
                "classes=None."
            )
    guessed = weights.preprocessing is None and "preprocessing" not in arguments
    arguments = with_defaults(
        arguments, weights.input_shape, weights.classes or 1000, weights.preprocessing or "imagenet"
    )
    model = build_unfilled(arguments, skip_head)
    load_arrays(model, weights.arrays, weights.name, skip_head, weights.grid, weights.tested)
    if guessed and "preprocessing" in arguments:
        logger.warning(
            "%s does not tell how its images were prepared: ImageNet's preprocessing is assumed. "
            "keras_t2t.create takes another as preprocessing=.",
            weights.name,
        )
    return model


def of_arrays(name, arrays, arguments, notes=None):
    """`Weights` of a checkpoint, with what its notes or a published file's name tell of them."""
    positions = arrays.get("pos_embed")
    patch = arrays.get("tokens_to_token.attention1.norm1.weight")
    if np.ndim(positions) != 3 or np.ndim(patch) != 1:
        raise ValueError(
            f"{name} is no checkpoint of a T2T-ViT: expected pos_embed of three axes and "
            f"tokens_to_token.attention1.norm1.weight of one, found {', '.join(list(arrays)[:3])}, "
            "..."
        )
    input_shape = square_input_shape(name, positions.shape, patch.shape, arguments)
    grid = preprocessing = None
    if notes is not None:
        input_shape = notes["input_shape"] or input_shape
        grid, preprocessing = notes["grid"], notes["preprocessing"]
    if preprocessing is None:
        rows = [row for row in PUBLISHED if row.filename == Path(name).name]
        preprocessing = rows[0].preprocessing if rows else None
    return Weights(name, arrays, input_shape, grid, preprocessing, tested_keys(name))


def _of_model(name, model):
    arrays = published_views(model)
    if not _reads_class_token(model):
        # A head on anything else is not the one that would be built for it.
        arrays = {key: array for key, array in arrays.items() if not key.startswith("head.")}
    grid = tuple(model.get_layer("projection").output.shape[1:3])
    return Weights(name, arrays, model.input_shape[1:], grid, carried_preprocessing(model))


def _reads_class_token(model):
    pooling = [layer.mode for layer in model.layers if isinstance(layer, TokenPooling)]
    return pooling == ["token"]


def _published(entry):
    """The weights of a published file, converted if they have not been before."""
    arguments = {**VARIANTS[entry.variant][1], "name": entry.variant}
    stem = entry.filename.removesuffix(".tar").removesuffix(".pth")
    converted = cache_folder() / f"{stem}.weights.h5"
    if converted.exists():
        try:
            return _of_model(entry.filename, read_weights(converted, arguments))
        except ValueError as error:
            logger.warning("%s; it is made again from the published file", error)
    import_torch()  # before the download
    path = fetch(entry)
    everything = {"input_tensor": None, "input_shape": None, "include_top": True, "classes": None}
    try:
        file = of_arrays(entry.filename, read_checkpoint(path), arguments)
        with float32_policy():
            model = build_pretrained(file, {**arguments, **everything, "seed": 0})
    except ValueError as error:
        raise ValueError(f"{error}\nDelete {path} to have it downloaded again.") from None
    try:
        write_weights(converted, model, entry.variant, overwrite=True)
    except OSError as error:  # a cache folder that many share, for one
        logger.warning("Cannot write %s, so it is converted each time: %s", converted, error)
    return _of_model(entry.filename, model)
