"""Training by a recipe, from data to model files."""

import gc
import importlib.util
import json
from pathlib import Path

import keras

from keras_t2t.training import loop, state
from keras_t2t.training.build import build_model, compiled
from keras_t2t.training.checkpoints import Checkpoints
from keras_t2t.training.distribution import choose_devices, largest_of_hosts
from keras_t2t.training.options import Options
from keras_t2t.training.recipe import load_recipe, plain, save_recipe
from keras_t2t.weights.keras_files import write_model

RECIPE_FILE = "recipe.yaml"
CLASSES_FILE = "classes.txt"
MODEL_FILE = "model.keras"
EMA_FILE = "model_ema.keras"
RESULTS_FILE = "results.json"


def train(recipe, data, out, *, verbose="auto", **options):
    """Trains a model, or goes on with a training that was interrupted.

    `out` then holds `recipe.yaml`, `classes.txt`, `log.csv`, `checkpoints/`, and at the end
    `model.keras`, `model_ema.keras` with the averaged weights, and `results.json`. A training that
    is interrupted, or whose loss is not finite, leaves the models of its newest checkpoint.

    Args:
        recipe: A `Recipe`.
        data: As `data` of `Options`.
        out: Path of the run's folder. If it holds checkpoints, they are gone on from; the recipe
            must then be the one that is saved there.
        verbose: As for `model.fit`.
        **options: The other fields of `Options`.

    Returns:
        Tuple of the trained model, compiled as it was, and a list with a dictionary for each epoch,
        the rows of `log.csv`: among others `val_top1`, `val_top5`, `ema_val_top1`, `ema_val_top5`,
        between 0 and 1.

    Raises:
        ValueError: If the recipe, the data and the folder do not fit each other.
        OSError: If data cannot be read, or a checkpoint not be written.
        ImportError: If TensorBoard is asked for but not installed.
        keras_t2t.training.TrainingInterrupted: On SIGTERM or Ctrl-C, once a checkpoint is written.
        keras_t2t.training.LossNotFinite: If the loss is NaN or infinite.
    """
    options, out = Options(data=data, **options), Path(out)
    if options.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ImportError("tensorboard is not installed: pip install keras_t2t[tensorboard]")
    devices = choose_devices(
        options.strategy, options.devices, options.coordinator, options.num_hosts, options.host_id
    )
    if devices.strategy == "mirrored" and recipe.accumulation_steps > 1:
        raise ValueError(
            "accumulation_steps: expected 1 with strategy mirrored, because Keras accumulates "
            "gradients in a conditional, where replicas cannot meet (merge_call). Use "
            "--strategy data_parallel on JAX, or one device"
        )
    from keras_t2t.data.decoding import naming_bad_images
    from keras_t2t.data.sources import open_source

    sources = [
        open_source(
            data[split] if isinstance(data, dict) else data,
            split,
            options.data_dir,
            options.manual_dir,
        )
        for split in ("train", "validation")
    ]
    if sources[0].num_classes != sources[1].num_classes:
        raise ValueError(
            f"data: {sources[0].num_classes} classes to train on, but {sources[1].num_classes} in "
            "validation"
        )
    _refuse_another_run(recipe, sources[0], out)
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    try:
        with devices.scope(), naming_bad_images():
            model, history, stopped = _fit(recipe, options, sources, devices, out, verbose)
    finally:
        keras.config.set_dtype_policy("float32")
        # Iterators over several devices that live until the interpreter ends keep it from ending.
        gc.collect()
    writes, classes = devices.host == 0, sources[0].num_classes
    if stopped:
        found = Checkpoints(out / "checkpoints").newest() if writes else None
        if found:
            _save_models(model, found[1], recipe, classes, out)
            if isinstance(stopped, loop.LossNotFinite):
                raise loop.LossNotFinite(
                    f"{stopped} A run in another folder starts from its weights, but for the "
                    f"head's, with --weights {out / MODEL_FILE}"
                ) from stopped
        raise stopped
    if writes:
        _save_models(model, state.read_state(model), recipe, classes, out)
        skipped = {name: reason for source in sources for name, reason in source.skipped.items()}
        for name, reason in skipped.items():
            print(f"skipped {name}: {reason}")
        results = {"parameters": model.count_params(), **history[-1], "skipped": len(skipped)}
        (out / RESULTS_FILE).write_text(json.dumps(results, indent=2) + "\n")
    return model, history


def _fit(recipe, options, sources, devices, out, verbose):
    from keras_t2t.data.pipeline import training_batches

    training, validation = sources
    classes = training.num_classes
    steps_per_epoch = len(training) // recipe.batch_size
    if not steps_per_epoch:
        raise ValueError(
            f"batch_size: expected at most the {len(training)} images of the data, got "
            f"{recipe.batch_size}"
        )

    def batches(step):
        return training_batches(
            training,
            recipe.augmentation,
            recipe.batch_size,
            recipe.seed,
            step,
            preprocessing=recipe.preprocessing,
            shard=(devices.host, devices.hosts),
            devices=devices.count,
            bad_images=options.bad_images,
        )

    model = build_model(recipe, classes)
    schedule = compiled(model, recipe, steps_per_epoch, classes, jit_compile=devices.jit_compile)
    evaluation = _evaluation(validation, recipe, devices, options.bad_images)
    writes = devices.host == 0
    callbacks = []
    if writes:
        if options.tensorboard:
            callbacks.append(keras.callbacks.TensorBoard(out / "tensorboard"))
        # Not earlier: a recipe that no model can be built by is not to bind the folder.
        out.mkdir(parents=True, exist_ok=True)
        save_recipe(recipe, out / RECIPE_FILE)
        (out / CLASSES_FILE).write_text(_class_lines(training))
    try:
        history = loop.fit(
            model,
            batches,
            evaluation,
            out,
            epochs=recipe.epochs,
            steps_per_epoch=steps_per_epoch,
            batch_size=recipe.batch_size,
            schedule=schedule,
            minutes=options.checkpoint_minutes,
            keep=options.keep_checkpoints,
            writes=writes,
            agree=largest_of_hosts if devices.hosts > 1 else None,
            data={"images": len(training), "classes": classes},
            callbacks=callbacks,
            verbose=verbose if writes else 0,
        )
    except (loop.TrainingInterrupted, loop.LossNotFinite) as stopped:
        return model, None, stopped
    return model, history, None


def _evaluation(source, recipe, devices, bad_images):
    """Batches (images, one-hot labels, weights), all of one size: padding weighs nothing.

    Another size would be compiled anew, and could not be split evenly over devices. All hosts
    evaluate on all images, each on its part of every batch.
    """
    import tensorflow as tf

    from keras_t2t.data.pipeline import evaluation_batches

    size = recipe.batch_size
    own = size // devices.hosts

    def pad(images, labels):
        missing = size - tf.shape(images)[0]
        weights = tf.pad(tf.ones(tf.shape(labels), tf.float32), [[0, missing]])
        images = tf.pad(images, [[0, missing], [0, 0], [0, 0], [0, 0]])
        labels = tf.one_hot(tf.pad(labels, [[0, missing]]), source.num_classes)
        parts = [part[devices.host * own :][:own] for part in (images, labels, weights)]
        return tuple(tf.ensure_shape(part, [own, *part.shape[1:]]) for part in parts)

    batches = evaluation_batches(source, recipe.preprocessing, size, bad_images=bad_images)
    # Where images are skipped there may be fewer batches, and Keras would warn that they ended.
    none = tuple(tf.zeros((0, *spec.shape[1:]), spec.dtype) for spec in batches.element_spec)
    batches = batches.concatenate(tf.data.Dataset.from_tensors(none).repeat())
    batches = batches.take(-(-len(source) // size)).map(pad).prefetch(tf.data.AUTOTUNE)
    return batches.apply(tf.data.experimental.assert_cardinality(-(-len(source) // size)))


def _class_lines(source):
    names = source.class_names or map(str, range(source.num_classes))
    return "".join(f"{name}\n" for name in names)


def _refuse_another_run(recipe, source, out):
    if not (Checkpoints(out / "checkpoints").paths() or (out / MODEL_FILE).exists()):
        return
    path = out / CLASSES_FILE
    if path.exists() and path.read_text() != _class_lines(source):
        raise ValueError(f"{path}: is of other classes. Choose another folder, or the same data")
    path = out / RECIPE_FILE
    if not path.exists():
        return
    before, now = (plain(r) for r in (load_recipe(path), recipe))
    different = [name for name in now if now[name] != before[name]]
    if different:
        name = different[0]
        raise ValueError(
            f"{path}: is of another recipe: {', '.join(different)} differ ({name} is "
            f"{before[name]!r} there, {now[name]!r} here). Choose another "
            "folder, or the same recipe"
        )


def _save_models(model, arrays, recipe, classes, out):
    """For use: the weights in float32 models that know nothing of optimizers and strategies.

    Of the model only the names are taken; `arrays` are its state, as `read_state` gives it.
    """
    values = {}
    groups = {"model/": model.variables, "optimizer/": model.optimizer.variables}
    for group, variables in groups.items():
        found = [array for name, array in arrays.items() if name.startswith(group)]
        values |= zip(map(id, variables), found, strict=True)
    fresh = build_model(recipe, classes, weights=False)
    _assign(fresh, {variable.path: values[id(variable)] for variable in model.weights})
    write_model(out / MODEL_FILE, fresh, overwrite=True)
    average = {variable.path: values[id(a)] for variable, a in state.averages(model)}
    if average:
        _assign(fresh, average)
        write_model(out / EMA_FILE, fresh, overwrite=True)


def _assign(model, values):
    for variable in model.weights:
        if variable.path in values:
            variable.assign(values[variable.path])
