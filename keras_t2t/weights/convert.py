"""From any file of weights to any other: published checkpoints to Keras, and back."""

from pathlib import Path

import numpy as np

from keras_t2t.models.variants import VARIANTS
from keras_t2t.weights.checkpoint import read_checkpoint, write_checkpoint
from keras_t2t.weights.keras_files import (
    read_model,
    read_notes,
    read_weights,
    write_model,
    write_weights,
)
from keras_t2t.weights.loading import published_views
from keras_t2t.weights.pretrained import SUFFIXES, build_pretrained, of_arrays


def convert(source, destination, variant=None, overwrite=False):
    """Converts a file of weights: a published checkpoint to Keras, or a Keras model back.

    Weights stay the same bit for bit. A checkpoint that is written is a bare state dict with the
    published keys and shapes. As `keras_t2t.load_checkpoint` does, averaged weights are taken where
    the checkpoint has them, and what belongs to no part of the model is left out, reported at INFO.

    Args:
        source: Path of a `.pth`, `.pth.tar`, `.safetensors`, `.npz`, `.weights.h5` or `.keras`
            file.
        destination: Path that ends in one of these. The file appears under this name only when it
            is complete.
        variant: String, the published name of the source's variant. `None` means what its keys and
            shapes tell (those of `t2t_vit_14` and `t2t_vit_14_resnext`, of which no weights are
            published, are the same: they are taken for the former), or the notes of a `.weights.h5`
            file that this function wrote.
        overwrite: Bool, whether an existing destination may be replaced.

    Returns:
        The `keras.Model` that was converted.

    Raises:
        FileNotFoundError: If there is no such source, or no folder for the destination.
        FileExistsError: If the destination exists and `overwrite` is `False`.
        ValueError: If a suffix is another, the source is damaged or fits no variant.
        ImportError: If a file needs a package that is not installed.
    """
    source, destination = Path(source).expanduser(), Path(destination).expanduser()
    if not destination.name.endswith(SUFFIXES):
        raise ValueError(
            f"`destination` must end in {', '.join(SUFFIXES)}. Received: {destination}"
        )
    if destination.exists() and not overwrite:  # said before the work, not after
        raise FileExistsError(f"{destination} exists. Pass overwrite=True to replace it.")
    model = load_model(source, variant)
    if destination.name.endswith(".keras"):
        write_model(destination, model, overwrite)
    elif destination.name.endswith(".weights.h5"):
        variant = variant or infer_variant(published_views(model))
        write_weights(destination, model, variant, overwrite)
    else:
        write_checkpoint(destination, published_views(model), overwrite)
    return model


def load_model(path, variant=None):
    """The model that a file of weights is of, with the file's classes and image size.

    Args:
        path: Path of a file as `convert` takes it.
        variant: String or `None`, as `convert` takes it.

    Returns:
        A `keras.Model`, named as its variant (that of a `.keras` file as it was saved).

    Raises:
        As `convert`.
    """
    path = Path(path).expanduser()
    if not path.name.endswith(SUFFIXES):
        raise ValueError(f"`source` must end in {', '.join(SUFFIXES)}. Received: {path}")
    if variant is not None and variant not in VARIANTS:
        raise ValueError(
            f"`variant` must be one of {', '.join(VARIANTS)}. Received: variant={variant!r}"
        )
    if path.name.endswith(".keras"):
        return read_model(path)
    arrays = None
    if path.name.endswith(".weights.h5"):
        variant = variant or read_notes(path).get("variant")
    else:
        arrays = read_checkpoint(path)
        variant = variant or infer_variant(arrays)
    if variant is None:
        raise ValueError(f"{path} does not tell its variant. Expected variant to be given.")
    arguments = {**VARIANTS[variant][1], "name": variant}
    if arrays is None:
        return read_weights(path, arguments)
    arguments |= dict.fromkeys(("input_shape", "input_tensor", "classes"))
    arguments["include_top"] = "head.weight" in arrays
    return build_pretrained(of_arrays(str(path), arrays, arguments), arguments)


def infer_variant(arrays):
    """The published name of the variant that a checkpoint is of, or `None`.

    Args:
        arrays: Dict `{published key: array}`.
    """
    blocks = {key.split(".")[1] for key in arrays if key.startswith("blocks.")}
    marks = {"squeeze_excite": ".se_layer.", "ghost": ".cheap_operation", "dense": ".dense_linear."}
    flavor = next(
        (name for name, mark in marks.items() if any(mark in key for key in arrays)), "plain"
    )
    found = (
        "performer" if "tokens_to_token.attention1.w" in arrays else "transformer",
        flavor,
        np.shape(arrays.get("cls_token"))[-1:],
        len(blocks),
    )
    for variant, (_, arguments) in VARIANTS.items():
        depth = arguments["depth"]
        if isinstance(depth, tuple):  # the published keys count the transitions too
            depth = sum(depth) + len(depth) - 1
        expected = (
            arguments.get("token_mixer", "performer"),
            arguments.get("flavor", "plain"),
            (arguments["embed_dim"],),
            depth,
        )
        if found == expected:
            return variant
    return None
