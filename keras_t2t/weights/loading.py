"""Published checkpoints into a model, and back."""

import logging
import math
import os
from collections.abc import Mapping

import keras
import numpy as np

from keras_t2t.models.graph import token_grid
from keras_t2t.weights.channels import fit_channels
from keras_t2t.weights.checkpoint import read_checkpoint, require_number
from keras_t2t.weights.keras_files import read_model
from keras_t2t.weights.mapping import published_slots, published_views, require_float
from keras_t2t.weights.positions import resize_positions
from keras_t2t.weights.published import published_as

logger = logging.getLogger("keras_t2t")


def load_checkpoint(
    model: keras.Model,
    source: str | os.PathLike | Mapping[str, np.ndarray],
    ema: bool = True,
    skip_head: bool = False,
    grid: tuple[int, int] | None = None,
) -> None:
    """Loads a checkpoint of the published implementation into a model, all of it or nothing.

    Positions of another grid of patches are resized, bicubically as published; without `grid` they
    are taken as they are where their number is the model's. Weights for RGB go into a model for
    another number of channels as described at `keras_t2t.weights.channels.fit_channels`.

    What is left out is reported once, at INFO, by the logger `keras_t2t`: the head where the model
    has none or keeps its own, the auxiliary head of token labeling, `aux_head.*`, and of the one
    published file whose keys have not been tested, all that no part of the model takes.

    Args:
        model: A model that `T2TViT` built, with a Performer or Transformer token mixer.
        source: Path of a checkpoint file (`.pth`, `.pth.tar`, `.safetensors`, `.npz`), or a mapping
            `{published key: array}`.
        ema: Bool, whether the moving average of the weights is taken where the file has one: the
            published accuracies are the average's.
        skip_head: Bool, whether the model keeps its own fresh head, whatever head the checkpoint
            has, as for another number of classes.
        grid: Pair of ints, rows and columns of the checkpoint's patches. `None` means the model's
            where their number is the same, else a square.

    Raises:
        ValueError: If keys are missing, unexpected, of the wrong shape or no real numbers; all of
            them are named. Or if a weight of the model is quantised or has LoRA.
    """
    if isinstance(source, Mapping):
        load_arrays(model, source, "the mapping", skip_head, grid)
        return
    if str(source).endswith((".keras", ".weights.h5")):
        raise ValueError(
            f"{source} is a file of Keras, not a checkpoint. Pass it as `weights` to "
            "keras_t2t.create, or use the model's load_weights."
        )
    load_arrays(model, read_checkpoint(source, ema=ema), str(source), skip_head, grid)


def load_arrays(model: keras.Model, arrays, name: str, skip_head=False, grid=None) -> list[str]:
    """`load_checkpoint` of a mapping, with the name that messages call it by.

    Returns:
        The keys that were left out.
    """
    arrays = {key: _array(value) for key, value in arrays.items()}
    slots = published_slots(model)
    if skip_head:
        slots = {key: slot for key, slot in slots.items() if not key.startswith("head.")}
    for key, slot in slots.items():
        _require_assignable(slot.variable, key)
    has_head = any(key.startswith("head.") for key in slots)
    entry = published_as(name)
    left_out = [
        key
        for key in arrays
        if key.startswith("aux_head.")
        or (key.startswith("head.") and not has_head)
        or (entry is not None and not entry.tested and key not in slots)
    ]
    arrays = _fit_channels(slots, arrays, name)
    problems = [f"missing: {key}" for key in slots if key not in arrays]
    problems += [f"unexpected: {key}" for key in arrays if key not in {*slots, *left_out}]
    values = {}
    for key in slots.keys() & arrays.keys():
        try:
            require_number(arrays[key], key, name)
            values[key] = _fit(key, slots[key], arrays[key], token_grid(model), grid)
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
    return left_out


def _array(value):
    array = np.asarray(value)
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _require_assignable(variable, key):
    # With LoRA, and some quantisations, a layer's kernel is computed anew each time.
    if not isinstance(variable, keras.Variable):
        raise ValueError(
            f"`model` cannot be loaded into: {key} is quantised or has LoRA. Load the checkpoint "
            "first, then quantise or enable LoRA."
        )
    require_float(variable, key)


def _fit_channels(slots, arrays, name):
    """The arrays for the model's number of channels, if they are for RGB and it is not."""
    key = "tokens_to_token.attention1.norm1.weight"
    channels, *kernel = slots[key].factors
    area = math.prod(kernel)
    if channels == 3 or key not in arrays or arrays[key].shape != (3 * area,):
        return arrays
    try:
        arrays = fit_channels(arrays, channels, area)
    except (KeyError, ValueError):
        return arrays  # its keys and shapes are about to be told
    logger.info("Fitted %s to %d-channel images", name, channels)
    return arrays


def _fit(key, slot, array, grid, old_grid):
    """The array in the layout of its variable, or a ValueError that says what does not fit."""
    if key == "pos_embed" and array.ndim == 3 and array.shape[-1] == slot.published_shape[-1]:
        if array.shape != slot.published_shape or grid != tuple(old_grid or grid):
            array = resize_positions(array, grid, old_grid)
    if array.shape != slot.published_shape:
        raise ValueError(f"expected shape {slot.published_shape}, received {tuple(array.shape)}")
    return slot.to_variable(array)


def published_state_dict(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of a model in the published layout: `{published key: array}`.

    Args:
        model: A model that `T2TViT` built, with a Performer or Transformer token mixer.

    Raises:
        ValueError: If the model is not one, or quantised.
    """
    # On PyTorch the arrays would change as the model trains.
    return {key: array.copy() for key, array in published_views(model).items()}


def copy_layers(path: str | os.PathLike, model: keras.Model) -> None:
    """Fills all of a model but its head from a `.keras` file of the same architecture.

    Any token mixer will do, since layers are matched by their names, not by published keys.

    Args:
        path: Path of the `.keras` file.
        model: A model that `T2TViT` built, with or without a head of its own.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged or of another architecture.
    """
    given = {layer.name: layer.get_weights() for layer in read_model(path).layers}
    layers = [layer for layer in model.layers if layer.weights and layer.name != "head"]
    for layer in layers:
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if shapes != [weight.shape for weight in given.get(layer.name, ())]:
            raise ValueError(f"{path}: is not of this architecture, layer {layer.name!r} differs")
    for layer in layers:
        layer.set_weights(given[layer.name])
