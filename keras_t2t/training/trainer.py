"""Training by a recipe, from data to model files."""

import contextlib
import gc
import json
import os
from pathlib import Path
from typing import Any

import keras

from keras_t2t.data.decoding import naming_bad_images
from keras_t2t.extras import require
from keras_t2t.progress import printable
from keras_t2t.rewrite import fuse
from keras_t2t.training import state
from keras_t2t.training.batches import open_batches
from keras_t2t.training.build import build_model, compile_model
from keras_t2t.training.checkpoints import Checkpoints
from keras_t2t.training.distribution import choose_devices
from keras_t2t.training.lock import locked
from keras_t2t.training.loop import Loop, LossNotFinite, TrainingInterrupted
from keras_t2t.training.options import Options
from keras_t2t.training.recipe import Recipe, load_recipe, plain, save_recipe
from keras_t2t.weights.keras_files import write_model

RECIPE_FILE = "recipe.yaml"
CLASSES_FILE = "classes.txt"
MODEL_FILE = "model.keras"


def train(
    recipe: Recipe, data: Any, out: str | os.PathLike, *, verbose: str | int = "auto", **options
) -> tuple[keras.Model, list[dict[str, float]]]:
    """Trains a model, or resumes a training that was interrupted.

    `out` then holds `recipe.yaml`, `classes.txt`, `log.csv`, `checkpoints/`, and at the end
    `model.keras`, `model_ema.keras` with the averaged weights, and `results.json`. A training that
    is interrupted, or whose loss is not finite, leaves the models of its newest checkpoint.

    Args:
        recipe: A `Recipe`.
        data: As `data` of `Options`.
        out: Path of the run's folder. If it holds checkpoints, the run resumes from the newest; the
            recipe must then be the one that is saved there.
        verbose: As for `model.fit`.
        **options: The other fields of `Options`.

    Returns:
        Tuple of the trained model, compiled as it was, and a list with a dictionary for each epoch,
        the rows of `log.csv`: among others `val_top1`, `val_top5`, `ema_val_top1`, `ema_val_top5`,
        between 0 and 1.

    Raises:
        ValueError: If the recipe, the data and the folder do not fit each other, or another
            training holds the folder.
        OSError: If data cannot be read, or a checkpoint not be written.
        ImportError: If TensorBoard is asked for but not installed.
        keras_t2t.training.TrainingInterrupted: On SIGTERM or Ctrl-C, once a checkpoint is written.
        keras_t2t.training.LossNotFinite: If the loss is NaN or infinite.
    """
    chosen, folder = Options(data=data, **options), Path(out)
    if chosen.tensorboard:
        require("tensorboard", "tensorboard")
    devices = choose_devices(chosen)
    if devices.strategy == "mirrored" and recipe.accumulation_steps > 1:
        raise ValueError(
            "accumulation_steps: expected 1 with strategy='mirrored', because Keras accumulates "
            "gradients in a conditional, where replicas cannot meet (merge_call). Use "
            "strategy='data_parallel' on JAX, or one device"
        )
    batches = open_batches(recipe, chosen, devices)
    class_lines = "".join(f"{name}\n" for name in batches.class_names)
    if devices.writes:
        folder.mkdir(parents=True, exist_ok=True)
    lock = locked(folder, devices.hosts > 1) if devices.writes else contextlib.nullcontext()
    with lock:
        _refuse_another_run(recipe, class_lines, folder)
        return _trained(recipe, batches, devices, chosen, folder, class_lines, verbose)


def _trained(recipe, batches, devices, options, folder, class_lines, verbose):
    """`train`, once the run's folder is known to be free for it."""
    names = batches.class_names
    try:
        with _keras_set_up(recipe, devices):
            model = fuse(build_model(recipe, names))
            compile_model(model, recipe, batches.steps_per_epoch, len(names), devices.jit_compile)
            if devices.writes:
                # Not earlier: a recipe that no model can be built by is not to bind the folder.
                save_recipe(recipe, folder / RECIPE_FILE)
                (folder / CLASSES_FILE).write_text(class_lines)
            history = Loop(model, batches, recipe, options, devices, folder, verbose=verbose).run()
    except (TrainingInterrupted, LossNotFinite) as stopped:
        found = Checkpoints(folder / "checkpoints").newest() if devices.writes else None
        if found:
            _save_models(model, found[1], recipe, names, folder)
            if isinstance(stopped, LossNotFinite):
                raise LossNotFinite(
                    f"{stopped} A run in another folder starts from its weights, but for the "
                    f"head's, with weights={str(folder / MODEL_FILE)!r}"
                ) from stopped
        raise
    if devices.writes:
        _save_models(model, state.read_state(model), recipe, names, folder)
        for name, reason in batches.skipped.items():
            print(printable(f"skipped {name}: {reason}"))
        results = {"parameters": model.count_params(), **history[-1]}
        results["skipped"] = len(batches.skipped)
        (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    return model, history


@contextlib.contextmanager
def _keras_set_up(recipe, devices):
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    try:
        with devices.scope(), naming_bad_images():
            yield
    finally:
        keras.config.set_dtype_policy("float32")
        # Iterators over several devices that live until the interpreter ends keep it from ending.
        gc.collect()


def _refuse_another_run(recipe, class_lines, folder):
    if not (Checkpoints(folder / "checkpoints").paths() or (folder / MODEL_FILE).exists()):
        return
    path = folder / CLASSES_FILE
    if path.exists() and path.read_text() != class_lines:
        raise ValueError(f"{path}: is of other classes. Choose another folder, or the same data")
    path = folder / RECIPE_FILE
    before, now = plain(load_recipe(path) if path.exists() else recipe), plain(recipe)
    different = [name for name in now if now[name] != before[name]]
    if different:
        name, names = different[0], ", ".join(f"`{name}`" for name in different)
        raise ValueError(
            f"{path}: is of another recipe: {names} differ (`{name}` is {before[name]!r} there, "
            f"{now[name]!r} here). Choose another folder, or the same recipe"
        )


def _save_models(model, arrays, recipe, names, folder):
    """For use: the weights in plain float32 models that know nothing of optimizers and strategies.

    Of the model only the variables' names are taken; `arrays` are its state, see `read_state`.
    """
    values = {id(variable): array for variable, array in state.matched(model, arrays)}
    trained = {variable.path: values[id(variable)] for variable in model.weights}
    averaged = {variable.path: values[id(average)] for variable, average in state.averages(model)}
    fresh = build_model(recipe, names, weights=False)
    for name, weights in ((MODEL_FILE, trained), ("model_ema.keras", averaged)):
        for variable in fresh.weights:
            if variable.path in weights:
                variable.assign(weights[variable.path])
        if weights:
            write_model(folder / name, fresh, overwrite=True)
