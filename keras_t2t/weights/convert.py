"""From any file of weights to any other: published checkpoints to Keras, and back."""

import logging
from pathlib import Path

from keras_t2t.files import refuse_existing
from keras_t2t.models.variants import VARIANTS
from keras_t2t.weights.checkpoint import (
    read_checkpoint,
    read_checkpoint_notes,
    write_checkpoint,
)
from keras_t2t.weights.keras_files import (
    checked_notes,
    notes_of,
    read_model,
    read_notes,
    read_weights,
    write_model,
    write_weights,
)
from keras_t2t.weights.loading import published_views
from keras_t2t.weights.pretrained import SUFFIXES, build_pretrained, of_arrays
from keras_t2t.weights.variant import infer_variant, published_variant

logger = logging.getLogger("keras_t2t")


def convert(source, destination, variant=None, overwrite=False):
    """Converts a file of weights: a published checkpoint to Keras, or a Keras model back.

    Weights stay the same bit for bit. A checkpoint that is written is a bare state dict with the
    published keys and shapes; only a `.safetensors` file has room for the preprocessing, the image
    size and the variant as well. As `keras_t2t.load_checkpoint` does, averaged weights are taken
    where the checkpoint has them, and what belongs to no part of the model is left out, reported at
    INFO.

    Args:
        source: Path of a `.pth`, `.pth.tar`, `.safetensors`, `.npz`, `.weights.h5` or `.keras`
            file.
        destination: Path that ends in one of these. The file appears under this name only when it
            is complete.
        variant: String, the published name of the source's variant. `None` means what its keys and
            shapes tell (those of `t2t_vit_14` and `t2t_vit_14_resnext`, of which no weights are
            published, are the same: they are taken for the former), or the notes of a `.weights.h5`
            or `.safetensors` file that this function wrote.
        overwrite: Bool, whether an existing destination may be replaced.

    Returns:
        The `keras.Model` that was converted.

    Raises:
        FileNotFoundError: If there is no such source, or no folder for the destination.
        FileExistsError: If the destination exists and `overwrite` is `False`.
        IsADirectoryError: If the destination is a folder.
        ValueError: If a suffix is another, the source is damaged or fits no variant, or another one
            than `variant`; or if the destination, any but `.keras`, could not be read back because
            the model is no published variant.
        ImportError: If a file needs a package that is not installed.
    """
    source, destination = Path(source).expanduser(), Path(destination).expanduser()
    if not destination.name.endswith(SUFFIXES):
        raise ValueError(
            f"`destination` must end in {', '.join(SUFFIXES)}. Received: {destination}"
        )
    refuse_existing(destination, overwrite)
    model = load_model(source, variant)
    if destination.name.endswith(".keras"):
        write_model(destination, model, overwrite)
        return model
    arrays = published_views(model)
    # Of any other source the model was built as its variant, and named so.
    variant = published_variant(model) if source.name.endswith(".keras") else model.name
    if destination.name.endswith(".weights.h5"):
        write_weights(destination, model, variant, overwrite)
        return model
    write_checkpoint(destination, arrays, overwrite, notes_of(model, variant))
    if not destination.name.endswith(".safetensors"):
        if infer_variant(arrays) != variant:
            logger.warning(
                "%s does not tell its variant: reading it takes %s", destination, variant
            )
        told = of_arrays(str(destination), arrays, {}).input_shape
        if told != model.input_shape[1:]:
            logger.warning(
                "%s does not tell the size of its images: reading it takes keras_t2t.create with "
                "input_shape=%s",
                destination,
                model.input_shape[1:],
            )
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
        model = read_model(path)
        if variant is not None:
            _require_variant(path, published_variant(model), variant)
        return model
    if path.name.endswith(".weights.h5"):
        arrays, notes = None, read_notes(path)
        told = notes["variant"]
    else:
        arrays, notes = read_checkpoint(path), checked_notes(path, read_checkpoint_notes(path))
        told = notes["variant"]
        if told is None and variant is None:
            variant = infer_variant(arrays)
            if variant is None:
                raise ValueError(
                    f"{path} is of no published variant. keras_t2t.load_checkpoint loads it into a "
                    "model that T2TViT builds with the right arguments."
                )
    if told is None and variant is None:
        raise ValueError(
            f"{path} does not tell its variant. Pass `variant` (--variant), the published name, if "
            "it is of one; else build the model with T2TViT and call its load_weights."
        )
    if told is not None and variant is not None:
        _require_variant(path, told, variant)
    variant = variant or told
    arguments = {**VARIANTS[variant][1], "name": variant}
    if arrays is None:
        return read_weights(path, arguments)
    arguments |= dict.fromkeys(("input_shape", "input_tensor", "classes"))
    arguments["include_top"] = any(key.startswith("head.") for key in arrays)
    return build_pretrained(of_arrays(str(path), arrays, arguments, notes), arguments)


def _require_variant(path, found, expected):
    if found != expected:
        raise ValueError(f"`variant` is {expected}, but {path} is of {found}.")
