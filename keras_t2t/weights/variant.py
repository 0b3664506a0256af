"""Which published variant weights are of, and whether a model is one."""

import keras
import numpy as np

from keras_t2t.models.variants import VARIANTS
from keras_t2t.preprocessing_layer import PreprocessedImages
from keras_t2t.weights.mapping import published_slots
from keras_t2t.weights.unfilled import build_unfilled

# Arguments of layers that change what is computed, but neither the name nor the shape of a weight.
_UNSEEN = ("kernel_size", "strides", "padding", "num_heads", "qk_scale", "mode", "epsilon")


def infer_variant(arrays):
    """The published name of the variant that a checkpoint is of, or `None`.

    Args:
        arrays: Dict `{published key: array}`.
    """
    return next(_candidates({key: np.shape(array) for key, array in arrays.items()}), None)


def published_variant(model):
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
        difference = _difference(model, shapes, variant)
        if difference is None:
            return variant
        differences.append(difference)
    reason = differences[0] if differences else "none has its depth, width and kinds of layers"
    raise ValueError(
        f"the model {model.name!r} is no published variant, so its weights alone could not be read "
        f"back: {reason}. A file that ends in .keras keeps everything."
    )


def _candidates(shapes):
    """Variants of the same kinds of layers, depth and width as these `{published key: shape}`."""
    blocks = {key.split(".")[1] for key in shapes if key.startswith("blocks.")}
    marks = {"squeeze_excite": ".se_layer.", "ghost": ".cheap_operation", "dense": ".dense_linear."}
    flavor = next(
        (name for name, mark in marks.items() if any(mark in key for key in shapes)), "plain"
    )
    found = (
        "performer" if "tokens_to_token.attention1.w" in shapes else "transformer",
        flavor,
        shapes.get("cls_token", ())[-1:],
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
            yield variant


def _difference(model, shapes, variant):
    """Where a model differs from a variant, or `None`."""
    with_head = len(model.output_shape) == 2
    reference = build_unfilled(
        {
            **VARIANTS[variant][1],
            "input_shape": model.input_shape[1:],
            "include_top": with_head,
            "classes": model.output_shape[-1],
            "seed": 0,  # so that Keras' own random state is left as it was
        }
    )
    found, expected = _computing_layers(model), _computing_layers(reference)
    names, expected_names = [[layer.name for layer in layers] for layers in (found, expected)]
    if names != expected_names:
        odd = [name for name in names if name not in expected_names] or names[-2:]
        return (
            f"expected {', '.join(expected_names[-3:])} at the end and nothing else that computes, "
            f"found {', '.join(odd)}"
        )
    for layer, other in zip(found, expected, strict=True):
        config, wanted = layer.get_config(), other.get_config()
        for name in _UNSEEN:
            if config.get(name) != wanted.get(name):
                return (
                    f"{name} of {layer.name} is {config[name]}, of {variant} it is {wanted[name]}"
                )
    if with_head and found[-1].activation not in (
        keras.activations.linear,
        keras.activations.softmax,
    ):
        return "its head ends neither in logits nor in their softmax"
    for key, slot in published_slots(reference).items():
        if shapes.get(key) != slot.published_shape:
            return (
                f"{key} has shape {shapes.get(key)}, that of {variant} has {slot.published_shape}"
            )
    extra = shapes.keys() - published_slots(reference).keys()
    return f"{variant} has no {sorted(extra)[0]}" if extra else None


def _computing_layers(model):
    passing = (keras.layers.InputLayer, keras.layers.Dropout, PreprocessedImages)
    return [layer for layer in model.layers if not isinstance(layer, passing)]
