"""The published models: architecture, weights and preprocessing under one name."""

import dataclasses
import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_t2t.files import refuse_existing
from keras_t2t.layers import Dense
from keras_t2t.models.t2t_vit import T2TViT
from keras_t2t.models.variants import list_variants
from keras_t2t.preprocessing import PREPROCESSING
from keras_t2t.rewrite.graph import last_layer
from keras_t2t.validation import one_of
from keras_t2t.weights import pretrained
from keras_t2t.weights.building import build_unfilled, network
from keras_t2t.weights.keras_files import read_model, write_model
from keras_t2t.weights.notes import Notes, Shape, Weights
from keras_t2t.weights.pretrained import Source, read_file
from keras_t2t.weights.published import find, require_suffix
from keras_t2t.weights.variant import infer_variant, published_variant

logger = logging.getLogger("keras_t2t")


def create(
    variant: str,
    include_top: bool = True,
    weights: Source | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int, int, int] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: Any = "softmax",
    name: str | None = None,
    skip_head: bool = False,
    **kwargs: Any,
) -> keras.Model:
    """Builds a published variant by its published name, in the `keras.applications` convention.

    Weights that are fetched land in Keras' cache folder, are converted there once (which needs
    PyTorch, which the extra `convert` brings) and are read from there ever after. Those of another
    image size have their positions resized, bicubically as published; those for RGB go into a model
    for another number of channels as `keras_t2t.weights.channels.fit_channels` tells.

    Args:
        variant: String, one of `list_variants()`.
        include_top: Bool, whether the classification head stands on the class token.
        weights: `None`, the default, for a fresh model: nothing is fetched unasked. The name of
            published weights: `"imagenet"`; for `t2t_vit_14` also `"imagenet384"`; for `t2t_vit_24`
            `"imagenet_token_labeling"`; for `t2t_vit_14` and `t2t_vit_19` `"cifar10"` and
            `"cifar100"`. Or the path of a file: `.pth`, `.pth.tar`, `.safetensors`, `.npz` with
            published keys, or `.weights.h5`, `.keras` of such a model.
        input_tensor: Keras tensor to use as the input, in place of `input_shape`.
        input_shape: Tuple `(height, width, channels)`. `None` means that of the weights, else
            `(224, 224, 3)`.
        pooling: Without the head: `None`, `"token"`, `"avg"` or `"max"`, see `T2TViT`.
        classes: Int, number of classes. `None` means those of the weights, else 1000.
        classifier_activation: Activation of the head; `None` gives logits.
        name: String, the model's name. `None` means the variant's.
        skip_head: Bool, whether the head stays fresh while all else comes from the weights, as for
            another number of classes.
        **kwargs: Any other argument of `T2TViT`. `preprocessing` is by default that of the weights,
            else ImageNet's; a file that does not carry one has that of the published file of this
            name, else ImageNet's. Behind an `input_tensor` that layers have made it is `None`.
            `class_names` is by default that of the weights whose head the model takes.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If the variant is unknown, the weights are not published for it, damaged or do
            not fit, or as `T2TViT`.
        OSError: If the weights cannot be fetched (`DownloadError`) or are not there.
        ImportError: If the file needs a package that is not installed.
    """
    one_of(variant, "variant", list_variants())
    build = functools.partial(
        network(variant),
        include_top=include_top,
        input_tensor=input_tensor,
        pooling=pooling,
        classifier_activation=classifier_activation,
        name=variant if name is None else name,
        **kwargs,
    )
    shape: Shape | None = input_shape
    if input_tensor is not None:
        shape = tuple(getattr(input_tensor, "shape", ()))[1:]
    # What layers have made of the images, only who put them there knows.
    assumed = "preprocessing" not in kwargs and not _made_by_layers(input_tensor)
    source = Weights("initial values", {}, Notes(input_shape=(224, 224, 3)))
    if weights is not None:
        keeps_head = include_top and not skip_head
        if keeps_head and isinstance(weights, str) and weights in PREPROCESSING:
            # Before the download.
            entry = find(variant, weights)
            _require_head(entry.filename, entry.classes, classes)
        source = pretrained.open_weights(variant, weights, build, shape)
        if keeps_head:
            _require_head(source.name, source.classes, classes)
    elif skip_head:
        raise ValueError("`skip_head=True` needs weights. Received: weights=None")
    named = not skip_head and "class_names" not in kwargs
    build = functools.partial(
        build,
        input_shape=source.notes.input_shape if shape is None else shape,
        classes=source.classes or 1000 if classes is None else classes,
        **({"preprocessing": source.notes.preprocessing or "imagenet"} if assumed else {}),
        **({"class_names": source.notes.class_names} if named else {}),
    )
    if weights is None:
        return build()
    model = build_unfilled(build, skip_head)
    pretrained.fill(model, source, skip_head)
    if assumed and source.notes.preprocessing is None:
        logger.warning(
            "%s does not tell how its images were prepared: ImageNet's preprocessing is assumed. "
            "keras_t2t.create takes another as preprocessing=.",
            source.name,
        )
    return model


def _made_by_layers(tensor: Any) -> bool:
    """Whether a Keras tensor is something else than the input of a model."""
    return keras.backend.is_keras_tensor(tensor) and all(
        tensor is not source for source in keras.utils.get_source_inputs(tensor)
    )


def _require_head(name: str, found: int | None, classes: int | None) -> None:
    if found is None:
        raise ValueError(
            f"{name} holds no head. Pass include_top=False, or skip_head=True and "
            "classes for a fresh one."
        )
    if classes not in (None, found):
        raise ValueError(
            f"classes={classes} does not fit {name}, which has {found}. Pass "
            f"skip_head=True for a fresh head of {classes} classes on the other weights, or "
            "classes=None."
        )


def load_model(path: str | os.PathLike, variant: str | None = None) -> keras.Model:
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
    require_suffix(path, "source")
    if variant is not None:
        one_of(variant, "variant", list_variants())
    model = read_model(path) if path.name.endswith(".keras") else None
    told = pretrained.read_notes(path).variant
    if model is not None and variant is not None:
        told = published_variant(model)
    if None not in (variant, told) and variant != told:
        raise ValueError(f"`variant` is {variant}, but {path} is of {told}.")
    if model is not None:
        return model
    variant = variant or told
    if variant is None and path.name.endswith(".weights.h5"):
        raise ValueError(
            f"{path} does not tell its variant. Pass `variant`, the published name, if "
            "it is of one; else build the model with T2TViT and call its load_weights."
        )
    weights = read_file(path, network(variant) if variant else functools.partial(T2TViT))
    variant = variant or infer_variant(weights.arrays)
    if variant is None:
        raise ValueError(
            f"{path} is of no published variant. keras_t2t.load_checkpoint loads it into a "
            "model that T2TViT builds with the right arguments."
        )
    has_head = any(key.startswith("head.") for key in weights.arrays)
    return create(variant, include_top=has_head, weights=weights)


def convert(
    source: str | os.PathLike,
    destination: str | os.PathLike,
    variant: str | None = None,
    overwrite: bool = False,
    labels: str | Sequence[str] | None = None,
) -> keras.Model:
    """Converts a file of weights: a published checkpoint to Keras, or a Keras model back.

    Weights stay the same bit for bit. A checkpoint that is written is a bare state dict with the
    published keys and shapes; only a `.safetensors` file has room for the preprocessing, the image
    size, the variant and the names of the classes as well. As `keras_t2t.load_checkpoint` does,
    averaged weights are taken where the checkpoint has them, and what belongs to no part of the
    model is left out, reported at INFO.

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
        labels: Names of the classes, as `keras_t2t.decode_predictions` takes them, for a `.keras`,
            `.safetensors` or `.weights.h5` destination to tell. `None` means those that the source
            tells.

    Returns:
        The `keras.Model` that was converted.

    Raises:
        FileNotFoundError: If there is no such source, or no folder for the destination.
        FileExistsError: If the destination exists and `overwrite` is `False`.
        IsADirectoryError: If the destination is a folder.
        ValueError: If a suffix is another, the source is damaged or fits no variant, or another one
            than `variant`; if the destination, any but `.keras`, could not be read back because
            the model is no published variant; or if there is another number of labels than of
            classes, or no head to carry them.
        ImportError: If a file needs a package that is not installed.
    """
    source, destination = Path(source).expanduser(), Path(destination).expanduser()
    require_suffix(destination, "destination")
    refuse_existing(destination, overwrite)
    model = load_model(source, variant)
    if labels is not None:
        _name_classes(model, labels)
    if destination.name.endswith(".keras"):
        write_model(destination, model, overwrite)
        return model
    # Of any other source the model was built as its variant, and named so.
    variant = published_variant(model) if source.name.endswith(".keras") else model.name
    pretrained.write_file(destination, model, variant, overwrite)
    return model


def _name_classes(model: keras.Model, labels: str | Sequence[str]) -> None:
    """Has the head of a model carry these names of its classes."""
    head: Any = last_layer(model)
    if type(head) is keras.layers.Dense:  # as 0.1.0 saved it
        head.__class__ = Dense
    if not isinstance(head, Dense):
        raise ValueError(
            f"`labels` must be None for the model {model.name!r}, whose last layer, {head.name!r}, "
            f"is no Dense layer, which could carry them. Received: labels={labels!r}"
        )
    head.class_names = labels


@dataclasses.dataclass(frozen=True)
class Factory:
    """Builds one published variant: `keras_t2t.create` with its first argument filled in.

    The arguments, in the `keras.applications` convention, and every other argument of `T2TViT` are
    described at `keras_t2t.create`.

    Attributes:
        variant: str, the published name.
    """

    variant: str

    def __call__(
        self,
        include_top: bool = True,
        weights: Source | None = None,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: tuple[int, int, int] | None = None,
        pooling: str | None = None,
        classes: int | None = None,
        classifier_activation: Any = "softmax",
        name: str | None = None,
        skip_head: bool = False,
        **kwargs: Any,
    ) -> keras.Model:
        """Builds the variant; see `keras_t2t.create`."""
        shared = (include_top, weights, input_tensor, input_shape, pooling, classes)
        return create(
            self.variant, *shared, classifier_activation, name, skip_head=skip_head, **kwargs
        )


T2TViT7 = Factory("t2t_vit_7")
T2TViT10 = Factory("t2t_vit_10")
T2TViT12 = Factory("t2t_vit_12")
T2TViT14 = Factory("t2t_vit_14")
T2TViT19 = Factory("t2t_vit_19")
T2TViT24 = Factory("t2t_vit_24")
T2TViTt14 = Factory("t2t_vit_t_14")
T2TViTt19 = Factory("t2t_vit_t_19")
T2TViTt24 = Factory("t2t_vit_t_24")
T2TViT14ResNeXt = Factory("t2t_vit_14_resnext")
T2TViT14Wide = Factory("t2t_vit_14_wide")
T2TViT14SE = Factory("t2t_vit_14_se")
T2TViT16Ghost = Factory("t2t_vit_16_ghost")
T2TViTDense = Factory("t2t_vit_dense")
