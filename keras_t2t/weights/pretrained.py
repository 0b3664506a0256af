"""`weights=` of the factories: from a published name or a file to a model."""

import dataclasses
import logging
import os
from pathlib import Path

import numpy as np

from keras_t2t.data.preprocessing import PREPROCESSING, Preprocessing, carried_preprocessing
from keras_t2t.models.variants import VARIANTS, with_defaults
from keras_t2t.weights.checkpoint import import_torch, read_checkpoint
from keras_t2t.weights.download import cache_folder, fetch
from keras_t2t.weights.keras_files import (
    float32_policy,
    read_model,
    read_weights,
    square_input_shape,
    write_weights,
)
from keras_t2t.weights.loading import load_arrays, published_views
from keras_t2t.weights.published import PUBLISHED, find
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
    """

    name: str
    arrays: dict
    input_shape: tuple | None
    grid: tuple | None = None
    preprocessing: Preprocessing | None = None

    @property
    def classes(self):
        """int, classes of their head, or None if they have no head."""
        bias = self.arrays.get("head.bias")
        return None if bias is None else len(bias)


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
    return of_arrays(str(path), read_checkpoint(path), arguments)


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
                "(height, width, channels), received input_shape=None."
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
    arguments = with_defaults(
        arguments, weights.input_shape, weights.classes or 1000, weights.preprocessing or "imagenet"
    )
    model = build_unfilled(arguments, skip_head)
    load_arrays(model, weights.arrays, weights.name, skip_head, weights.grid)
    return model


def of_arrays(name, arrays, arguments):
    """`Weights` of a checkpoint; if it has the name of a published file, also what that needs."""
    positions = arrays.get("pos_embed")
    patch = arrays.get("tokens_to_token.attention1.norm1.weight")
    if np.ndim(positions) != 3 or np.ndim(patch) != 1:
        raise ValueError(
            f"{name} is no checkpoint of a T2T-ViT: expected pos_embed of three axes and "
            f"tokens_to_token.attention1.norm1.weight of one, found {', '.join(list(arrays)[:3])}, "
            "..."
        )
    input_shape = square_input_shape(positions.shape, patch.shape, arguments)
    rows = [row for row in PUBLISHED if row.filename == Path(name).name]
    return Weights(name, arrays, input_shape, preprocessing=rows[0].preprocessing if rows else None)


def _of_model(name, model):
    arrays = published_views(model)
    grid = tuple(model.get_layer("projection").output.shape[1:3])
    return Weights(name, arrays, model.input_shape[1:], grid, carried_preprocessing(model))


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
