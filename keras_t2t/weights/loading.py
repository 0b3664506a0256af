"""Published checkpoints into a model, and back."""

import logging
from collections.abc import Mapping

import keras
import numpy as np

from keras_t2t.weights.mapping import published_slots
from keras_t2t.weights.positions import resize_positions

logger = logging.getLogger("keras_t2t")


def load_checkpoint(model, source, ema=True, skip_head=False):
    """Loads a checkpoint of the published implementation into a model, all of it or nothing.

    Positions of another image size are resized, bicubically as published; a checkpoint's grid is
    taken to be square. Where the number of positions is the model's, they are taken as they are.

    Args:
        model: A model that `T2TViT` built, with a Performer or Transformer token mixer.
        source: Path of a checkpoint file (`.pth`, `.pth.tar`, `.safetensors`, `.npz`), or a mapping
            `{published key: array}`.
        ema: Bool, whether the moving average of the weights is taken where the file has one: the
            published accuracies are the average's.
        skip_head: Bool, whether the model keeps its own fresh head, whatever head the checkpoint
            has, as for another number of classes.

    Raises:
        ValueError: If keys are missing, unexpected or of the wrong shape; all of them are named.
            `aux_head.*` may always be there, `head.*` where the model has no head.
    """
    if isinstance(source, Mapping):
        arrays, name = {key: np.asarray(array) for key, array in source.items()}, "the mapping"
    else:
        from keras_t2t.weights.checkpoint import read_checkpoint

        arrays, name = read_checkpoint(source, ema=ema), str(source)
    slots = published_slots(model)
    if skip_head:
        slots = {key: slot for key, slot in slots.items() if not key.startswith("head.")}
    has_head = any(key.startswith("head.") for key in slots)
    left_out = [
        key
        for key in arrays
        if key.startswith("aux_head.") or (key.startswith("head.") and not has_head)
    ]
    problems = [f"missing: {key}" for key in slots if key not in arrays]
    problems += [f"unexpected: {key}" for key in arrays if key not in {*slots, *left_out}]
    values = {}
    for key in slots.keys() & arrays.keys():
        try:
            values[key] = _fit(model, key, slots[key], arrays[key])
        except ValueError as error:
            problems.append(f"{key}: {error}")
    if problems:
        hint = ""
        if any(problem.startswith("head.") for problem in problems):
            hint = "\nFor another number of classes pass skip_head=True; the head then stays fresh."
        raise ValueError(
            f"{name} does not fit the model {model.name!r}, which was left untouched:\n  "
            + "\n  ".join(sorted(problems))
            + hint
        )
    for key, value in values.items():
        slots[key].variable.assign(value)
    if left_out:
        logger.info("Left out of %s: %s", name, ", ".join(left_out))


def _fit(model, key, slot, array):
    """The array in the layout of its variable, or a ValueError that says what does not fit."""
    if key == "pos_embed" and array.ndim == 3 and array.shape[-1] == slot.published_shape[-1]:
        if array.shape != slot.published_shape:
            grid = model.get_layer("projection").output.shape[1:3]
            array = resize_positions(array, grid)
    if array.shape != slot.published_shape:
        raise ValueError(f"expected shape {slot.published_shape}, received {tuple(array.shape)}")
    return slot.to_variable(array)


def published_state_dict(model):
    """The weights of a model in the published layout: `{published key: array}`.

    Args:
        model: A model that `T2TViT` built, with a Performer or Transformer token mixer.

    Raises:
        ValueError: If the model is not one.
    """
    return {
        key: slot.to_published(keras.ops.convert_to_numpy(slot.variable))
        for key, slot in published_slots(model).items()
    }
