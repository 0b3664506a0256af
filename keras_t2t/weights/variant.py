"""Which published variant weights are of, and whether a model is one."""

import itertools
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from keras_t2t.models.variants import VARIANTS
from keras_t2t.preprocessing_layer import PreprocessedImages
from keras_t2t.weights.building import build_unfilled, network
from keras_t2t.weights.mapping import published_slots

# Arguments of layers that change what is computed, but neither the name nor the shape of a weight.
_UNSEEN = ("kernel_size", "strides", "padding", "num_heads", "qk_scale", "mode", "epsilon")
_PASSING = (keras.layers.InputLayer, keras.layers.Dropout, PreprocessedImages)


def infer_variant(arrays: Mapping[str, np.ndarray]) -> str | None:
    """The published name of the variant that a checkpoint is of, or `None`.

    Args:
        arrays: Mapping `{published key: array}`.
    """
    return next(_candidates({key: np.shape(array) for key, array in arrays.items()}), None)


def published_variant(model: keras.Model) -> str:
    """The published name of the variant that a model is, so that its weights tell all of it.

    Dropout, a softmax at the end and what images are put through beforehand do not count.

    Args:
        model: A model that `T2TViT` built.

    Returns:
        String, one of `keras_t2t.list_variants()`.

    Raises:
        ValueError: If the model is none of them; the message says where it differs.
    """
    shapes = {key: slot.published_shape for key, slot in published_slots(model).items()}
    differences = []
    for variant in _candidates(shapes):
        differences.append(_difference(model, variant))
        if differences[-1] is None:
            return variant
    reason = differences[0] if differences else "none has its depth, width and kinds of layers"
    raise ValueError(
        f"the model {model.name!r} is no published variant, so its weights alone could not be read "
        f"back: {reason}. A file that ends in .keras keeps everything."
    )


def _candidates(shapes: dict[str, tuple]) -> Iterator[str]:
    """Variants of the same kinds of layers, depth and width as these `{published key: shape}`."""
    blocks = {key.split(".")[1] for key in shapes if key.startswith("blocks.")}
    marks = {"squeeze_excite": ".se_layer.", "ghost": ".cheap_operation", "dense": ".dense_linear."}
    flavor = next(
        (name for name, mark in marks.items() if any(mark in key for key in shapes)), "plain"
    )
    performer = "tokens_to_token.attention1.w" in shapes
    token_mixer = "performer" if performer else "transformer"
    found = (token_mixer, flavor, shapes.get("cls_token", ())[-1:], len(blocks))
    for name, variant in VARIANTS.items():
        depth = variant.depth
        if isinstance(depth, tuple):  # the published keys count the transitions too
            depth = sum(depth) + len(depth) - 1
        if found == (variant.token_mixer, variant.flavor, (variant.embed_dim,), depth):
            yield name


def _difference(model, variant):
    """Where a model differs from a variant, or `None`."""
    reference = build_unfilled(
        network(variant),
        input_shape=model.input_shape[1:],
        include_top=len(model.output_shape) == 2,
        classes=model.output_shape[-1],
        seed=0,  # so that Keras' own random state is left as it was
    )
    for traits in (_layers, _shapes):
        for found, expected in itertools.zip_longest(traits(model), traits(reference)):
            if found != expected:
                return f"it has {found or 'nothing'} where {variant} has {expected or 'nothing'}"
    return None


def _layers(model):
    for layer in model.layers:
        if isinstance(layer, _PASSING):
            continue
        yield f"{type(layer).__name__} {layer.name}"
        config = layer.get_config()
        for name in _UNSEEN:
            if name in config:
                yield f"{name}={config[name]} of {layer.name}"
        if layer.name == "head":
            known = config["activation"] in ("linear", "softmax")
            yield "logits or their softmax" if known else f"activation={config['activation']}"


def _shapes(model):
    for key, slot in published_slots(model).items():
        yield f"{key} of shape {slot.published_shape}"
