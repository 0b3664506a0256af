"""Where weights come from: a published name or a file, and the cache between."""

import dataclasses
import logging
import os
from pathlib import Path

import keras
import numpy as np

from keras_t2t.preprocessing import PREPROCESSING
from keras_t2t.weights import checkpoint, keras_files
from keras_t2t.weights.building import Network, network
from keras_t2t.weights.checkpoint import import_torch, read_checkpoint, write_checkpoint
from keras_t2t.weights.download import cache_folder, fetch
from keras_t2t.weights.loading import load_arrays
from keras_t2t.weights.mapping import published_views
from keras_t2t.weights.notes import Notes, Shape, Weights, infer_input_shape
from keras_t2t.weights.published import SUFFIXES, PublishedWeights, find, published_as
from keras_t2t.weights.variant import infer_variant

logger = logging.getLogger("keras_t2t")

# What `weights=` takes.
Source = str | os.PathLike | Weights
_FIRST_NORM = "tokens_to_token.attention1.norm1.weight"


def open_weights(
    variant: str, weights: Source, build: Network, input_shape: Shape | None = None
) -> Weights:
    """Finds, and if need be fetches, weights for a variant.

    Args:
        variant: str, published name of the variant.
        weights: as `keras_t2t.create` takes it, or `Weights` that have been read already.
        build: `T2TViT` with the arguments of the model that is to be built filled in.
        input_shape: tuple `(height, width, channels)` of that model, or None for the weights' own.

    Returns:
        `Weights`.

    Raises:
        As `keras_t2t.create`.
    """
    if isinstance(weights, Weights):
        return weights
    if not isinstance(weights, (str, os.PathLike)):
        raise ValueError(
            "`weights` must be None, the name of published weights or the path of a file. "
            f"Received: weights={weights!r}"
        )
    if isinstance(weights, str) and weights in PREPROCESSING:
        return _published(find(variant, weights))
    path = Path(weights).expanduser()
    if not path.name.endswith(SUFFIXES) and not path.is_file():
        find(variant, str(weights))  # which tells what there is
    return read_file(path, build, input_shape)


def read_file(path: Path, build: Network, input_shape: Shape | None = None) -> Weights:
    """Reads the weights in a file of any kind; arguments as `open_weights` takes them.

    Only a file of Keras is read through a model, its own.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or of no T2T-ViT or another one.
        ImportError: the file needs a package that is not installed.
    """
    name = str(path)
    if path.name.endswith(".keras"):
        return keras_files.weights_of(name, keras_files.read_model(path))
    if path.name.endswith(".weights.h5"):
        return keras_files.read_weights(path, build, input_shape)
    arrays, notes = read_checkpoint(path), checkpoint.read_checkpoint_notes(path)
    positions, patch = (np.shape(arrays.get(key, 0)) for key in ("pos_embed", _FIRST_NORM))
    if len(positions) != 3 or len(patch) != 1:
        raise ValueError(
            f"{name} is no checkpoint of a T2T-ViT: expected pos_embed of three axes and "
            f"{_FIRST_NORM} of one, found {', '.join(list(arrays)[:3])}, ..."
        )
    shape = notes.input_shape
    shape = shape or infer_input_shape(name, positions, patch, build, input_shape)
    entry = published_as(path)
    preprocessing = notes.preprocessing or (entry and entry.preprocessing)
    notes = dataclasses.replace(notes, input_shape=shape, preprocessing=preprocessing)
    return _named(Weights(name, arrays, notes), entry)


def _named(weights: Weights, entry: PublishedWeights | None) -> Weights:
    """The weights with the names of a published file's classes, if they are of as many."""
    names = entry and entry.class_names
    if weights.notes.class_names or not names or len(names) != weights.classes:
        return weights
    return dataclasses.replace(weights, notes=dataclasses.replace(weights.notes, class_names=names))


def read_notes(path: Path) -> Notes:
    """What a file of any kind notes beside its weights, without reading them.

    Raises:
        FileNotFoundError, ValueError: as `read_file`.
    """
    if path.name.endswith(".weights.h5"):
        return Notes.from_json(keras_files.read_weights_notes(path)[0], path)
    return checkpoint.read_checkpoint_notes(path)


def _published(entry: PublishedWeights) -> Weights:
    """The weights of a published file: as they were kept, else as they are fetched."""
    build, kept = network(entry.variant), _kept(entry.filename)
    old = kept.with_suffix(".weights.h5")  # of version 0.1.0
    for path in (kept, old):
        if path.exists():
            try:
                weights = _named(read_file(path, build), entry)
                fetched = path if path == old else None
                return dataclasses.replace(weights, name=entry.filename, fetched=fetched)
            except ValueError as error:
                logger.warning("%s; it is made again from the published file", error)
    import_torch()  # before the download
    path = fetch(entry)
    try:
        weights = read_file(path, build)
    except ValueError as error:
        raise ValueError(f"{error}\nDelete {path} to have it downloaded again.") from None
    notes = dataclasses.replace(weights.notes, variant=entry.variant)
    return Weights(entry.filename, weights.arrays, notes, fetched=path)


def fill(model: keras.Model, weights: Weights, skip_head: bool = False) -> None:
    """Fills a model. Those of a published file are kept for the next time, since they fit.

    Args:
        model: A model that `T2TViT` built.
        weights: `Weights`.
        skip_head: bool, whether the head stays fresh.

    Raises:
        ValueError: the weights do not fit the model; the message says what to do.
    """
    try:
        left_out = load_arrays(model, weights.arrays, weights.name, skip_head, weights.notes.grid)
    except ValueError as error:
        if weights.fetched is None:
            raise
        raise ValueError(
            f"{error}\nIf the file is at fault: Delete {weights.fetched} to have it downloaded "
            "again."
        ) from None
    if weights.fetched is not None:
        needed = {
            key: array
            for key, array in weights.arrays.items()
            if key.startswith("head.") or key not in left_out
        }
        kept = _kept(weights.name)
        try:
            write_checkpoint(kept, needed, overwrite=True, notes=weights.notes)
        except OSError as error:  # a cache folder that many share, for one
            logger.warning("Cannot write %s, so it is converted each time: %s", kept, error)


def _kept(filename):
    """Where the weights of a published file are kept, ready to be read without PyTorch."""
    stem = filename.removesuffix(".tar").removesuffix(".pth")
    return cache_folder() / f"{stem}.safetensors"


def write_file(path: Path, model: keras.Model, variant: str, overwrite=False) -> None:
    """Writes the weights of a model, and what belongs to them as far as there is room for it.

    Args:
        path: Path of any kind of file but `.keras`.
        model: A published variant.
        variant: Its published name.
        overwrite: bool, whether an existing file may be replaced.

    Raises:
        FileExistsError, FileNotFoundError, OSError, ImportError: as `write_checkpoint`.
    """
    notes = Notes.of(model, variant)
    if path.name.endswith(".weights.h5"):
        keras_files.write_weights(path, model, notes, overwrite)
        return
    arrays = published_views(model)
    write_checkpoint(path, arrays, overwrite, notes)
    if path.name.endswith(".safetensors"):
        return
    if infer_variant(arrays) != variant:
        logger.warning("%s does not tell its variant: reading it takes %s", path, variant)
    shapes = arrays["pos_embed"].shape, arrays[_FIRST_NORM].shape
    if infer_input_shape(str(path), *shapes, network(variant), ()) != notes.input_shape:
        logger.warning(
            "%s does not tell the size of its images: reading it takes keras_t2t.create with "
            "input_shape=%s",
            path,
            notes.input_shape,
        )
