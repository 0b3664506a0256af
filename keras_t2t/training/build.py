"""From a recipe to a model, an optimizer and a compiled model."""

import re
from collections.abc import Sequence

import keras

from keras_t2t.layers import Dense
from keras_t2t.models.t2t_vit import T2TViT
from keras_t2t.training.optimizer import SGD, AdamW
from keras_t2t.training.recipe import Recipe
from keras_t2t.training.schedule import WarmupCosine
from keras_t2t.weights.loading import copy_layers
from keras_t2t.zoo import create


def build_model(recipe: Recipe, class_names: Sequence[str], weights: bool = True) -> keras.Model:
    """Builds the model of a recipe, with logits as its output.

    Args:
        recipe: A `Recipe`.
        class_names: Name of each class.
        weights: Whether to start from the recipe's weights, if it has any.

    Returns:
        A `keras.Model` in the current dtype policy, that tells its preprocessing and its classes.

    Raises:
        ValueError: If the recipe's `model`, `variant` or `weights` do not fit each other.
    """
    pre = recipe.preprocessing
    shape = (pre.height, pre.width, len(pre.mean))
    arguments = {**recipe.model, "input_shape": shape, "preprocessing": pre}
    if recipe.pooling == "token":
        named = {"classes": len(class_names), "class_names": class_names}
        arguments |= {**named, "classifier_activation": None}
    else:
        arguments |= {"include_top": False, "pooling": "avg"}
    source = recipe.weights if weights else None
    try:
        if recipe.variant is None:
            model = T2TViT(**arguments)
        else:
            model = create(recipe.variant, weights=source, skip_head=bool(source), **arguments)
    except (TypeError, ValueError) as error:
        # Errors of weights and their files name none of these arguments.
        named = any(f"`{name}`" in str(error) for name in recipe.model)
        if isinstance(error, ValueError) and not named:
            raise
        raise ValueError(f"model: {error}") from error
    if recipe.pooling == "avg":
        head = Dense(len(class_names), class_names=class_names, dtype="float32", name="head")
        model = keras.Model(model.input, head(model.output), name=model.name)
    if recipe.initial_weights == "glorot" and source is None:
        draw_glorot(model)
    if source is not None and recipe.variant is None:
        copy_layers(source, model)
    return model


def draw_glorot(model: keras.Model) -> None:
    """Draws the kernels of a model anew, uniformly in Glorot's bounds.

    The published Normal(0, 0.02) suits wide layers; narrow ones learn sooner with Glorot's.
    """
    initializer = keras.initializers.GlorotUniform()
    for variable in model.trainable_variables:
        if variable.path.endswith("kernel"):
            variable.assign(initializer(variable.shape))


def compile_model(model, recipe, steps_per_epoch, classes, jit_compile: bool | str = "auto"):
    """Compiles a model for training by a recipe.

    Args:
        model: `keras.Model` with logits as its output.
        recipe: A `Recipe`.
        steps_per_epoch: Steps of an epoch.
        classes: Number of classes.
        jit_compile: As for `model.compile`.

    Raises:
        ValueError: If `frozen` or `part_rates` names nothing in the model, or parts are to share
            a final rate that is not below the highest.
    """
    for pattern in recipe.frozen:
        layers = [layer for layer in model.layers if re.search(pattern, layer.name)]
        if not layers:
            raise ValueError(f"frozen: {pattern!r} is found in no layer's name")
        for layer in layers:
            layer.trainable = False
    model.compile(
        make_optimizer(recipe, make_schedule(recipe, steps_per_epoch), model),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        # Weighted: the images that pad the last batch of an evaluation weigh nothing.
        weighted_metrics=[
            keras.metrics.CategoricalCrossentropy(from_logits=True, name="cross_entropy"),
            keras.metrics.CategoricalAccuracy(name="top1"),
            keras.metrics.TopKCategoricalAccuracy(min(5, classes), name="top5"),
        ],
        jit_compile=jit_compile,
    )


def make_schedule(recipe: Recipe, steps_per_epoch: int) -> WarmupCosine:
    """The learning rate schedule of a recipe, in steps."""
    peak = recipe.learning_rate
    if recipe.rate_per_images:
        peak *= recipe.batch_size / recipe.rate_per_images
    return WarmupCosine(
        peak,
        recipe.epochs - recipe.cooldown_epochs,
        steps_per_epoch,
        recipe.warmup_epochs,
        recipe.warmup_rate,
        recipe.final_rate,
        recipe.rate_every_step,
    )


def make_optimizer(recipe: Recipe, schedule: WarmupCosine, model: keras.Model) -> AdamW | SGD:
    """The optimizer of a recipe for the trainable variables of a model."""
    steps = recipe.accumulation_steps
    arguments = {
        "learning_rate": schedule,
        "part_rates": _part_rates(recipe, schedule, model),
        "global_clipnorm": recipe.clip_norm,
        "gradient_accumulation_steps": steps if steps > 1 else None,
    }
    if recipe.ema:
        arguments |= {
            "use_ema": True,
            # Keras averages after every batch, also where the weights wait for more of them.
            "ema_momentum": recipe.ema ** (1 / steps),
            "ema_warmup": recipe.ema_warmup,
            "ema_in_model": False,
        }
    if recipe.optimizer == "adamw":
        return AdamW(weight_decay=recipe.weight_decay, **arguments)
    return SGD(l2=recipe.weight_decay, **arguments)


def _part_rates(recipe, schedule, model):
    """`part_rates` of the optimizers: pairs (scale, offset) by regular expressions."""
    paths = [variable.path for variable in model.trainable_variables]
    for pattern in recipe.part_rates:
        if not any(re.search(pattern, path) for path in paths):
            raise ValueError(f"part_rates: {pattern!r} is found in no variable's path")
    decay = _layer_decay(recipe.layer_decay, model)
    peak, floor = schedule.peak, schedule.floor
    if recipe.share_final_rate and peak <= floor:
        raise ValueError(f"final_rate: expected below the highest rate, {peak}, got {floor}")
    parts = {}
    for path in paths:
        found = (rate for pattern, rate in recipe.part_rates.items() if re.search(pattern, path))
        scale, offset = next(found, 1.0), 0.0
        if recipe.share_final_rate and scale != 1.0:
            # From its share of the peak down to the same floor, in step with the schedule.
            scale = (scale * peak - floor) / (peak - floor)
            offset = floor * (1 - scale)
        factor = decay(path)
        parts.setdefault((scale * factor, offset * factor), []).append(re.escape(path))
    parts.pop((1.0, 0.0), None)  # which is what all others have
    return {f"^({'|'.join(members)})$": line for line, members in parts.items()}


def _layer_decay(decay, model):
    """A function from a variable's path to its factor of the learning rate, by the depth."""
    names = [layer.name for layer in model.layers]
    blocks = [name for name in names if name.startswith("encoder_block_")]
    factors = {"norm": 1.0, "head": 1.0}
    for depth, block in enumerate(reversed(blocks), 1):
        factors[block] = (decay or 1.0) ** depth
    # What stands ahead of the first block is one layer further down.
    lowest = (decay or 1.0) ** (len(blocks) + 1)
    return lambda path: factors.get(path.partition("/")[0], lowest)
