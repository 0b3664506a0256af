"""Training by a recipe, from data to model files."""

import dataclasses
import gc
import json
from pathlib import Path

import keras
import yaml

from keras_t2t.data.augment import Augmentation
from keras_t2t.data.preprocessing import Preprocessing
from keras_t2t.files import replacing
from keras_t2t.training import loop
from keras_t2t.training.build import build_model, compiled
from keras_t2t.training.distribution import assert_same_step, choose_devices
from keras_t2t.training.recipe import RECIPES, Recipe
from keras_t2t.training.state import averages
from keras_t2t.weights.keras_files import write_model

RECIPE_FILE = "recipe.yaml"
CLASSES_FILE = "classes.txt"
MODEL_FILE = "model.keras"
EMA_FILE = "model_ema.keras"
RESULTS_FILE = "results.json"


@dataclasses.dataclass(frozen=True)
class Options:
    """Where a training runs: on which data and devices, and how often it saves.

    Args:
        data: "tfds:NAME", a prepared TFDS folder, an image folder with train/ and val/, or a folder
            of IDX files; from Python also the pairs of arrays (images, labels) of training and
            validation, as {"train": pair, "validation": pair}.
        data_dir: Folder of all TFDS data sets. None means TFDS' own.
        manual_dir: Folder of what TFDS cannot download, such as ImageNet's tar files.
        strategy: "auto", "mirrored" (TensorFlow, the GPUs of a machine), "data_parallel" (JAX, one
            or many hosts) or "one_device".
        devices: How many devices to use. None means all.
        coordinator: ADDRESS:PORT of host 0, for JAX on many hosts. None means one host, or what
            SLURM, Kubernetes or Open MPI tell.
        num_hosts: Number of hosts, with the coordinator.
        host_id: Number of this host, from 0, with the coordinator.
        checkpoint_minutes: Minutes from one checkpoint to the next; one is also written after every
            epoch.
        keep_checkpoints: Number of checkpoints to keep.
        bad_images: What an undecodable image does: "error" stops the run with its name, "skip" puts
            another in its place, counts it and names it at the end.
        tensorboard: Whether to log for TensorBoard too.
    """

    data: object = None
    data_dir: str | None = None
    manual_dir: str | None = None
    strategy: str = "auto"
    devices: int | None = None
    coordinator: str | None = None
    num_hosts: int | None = None
    host_id: int | None = None
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 3
    bad_images: str = "error"
    tensorboard: bool = False

    def __post_init__(self):
        if not self.checkpoint_minutes > 0:
            raise ValueError(
                f"checkpoint_minutes: expected above 0, got {self.checkpoint_minutes!r}"
            )
        if self.keep_checkpoints < 1:
            raise ValueError(f"keep_checkpoints: expected at least 1, got {self.keep_checkpoints}")


def train(recipe, data, out, *, verbose="auto", **options):
    """Trains a model, or goes on with a training that was interrupted.

    `out` then holds `recipe.yaml`, `log.csv`, `checkpoints/`, and at the end `model.keras`,
    `model_ema.keras` with the averaged weights, `classes.txt` and `results.json`.

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
        keras_t2t.training.TrainingInterrupted: On SIGTERM or Ctrl-C, once a checkpoint is written.
        keras_t2t.training.LossNotFinite: If the loss is NaN or infinite.
    """
    options, out = Options(data=data, **options), Path(out)
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
    writes = devices.host == 0
    if writes:
        _save_recipe(recipe, out)
        names = sources[0].class_names or map(str, range(sources[0].num_classes))
        (out / CLASSES_FILE).write_text("".join(f"{name}\n" for name in names))
    keras.utils.set_random_seed(recipe.seed)
    keras.config.set_dtype_policy(recipe.precision)
    try:
        with devices.scope(), naming_bad_images():
            model, history = _fit(recipe, options, sources, devices, out, verbose)
    finally:
        keras.config.set_dtype_policy("float32")
        # Iterators over several devices that live until the interpreter ends keep it from ending.
        gc.collect()
    if writes:
        _save_models(model, recipe, sources[0].num_classes, out)
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
    callbacks = []
    if options.tensorboard and devices.host == 0:
        callbacks.append(keras.callbacks.TensorBoard(out / "tensorboard"))
    history = loop.fit(
        model,
        batches,
        _evaluation(validation, recipe, devices, options.bad_images),
        out,
        epochs=recipe.epochs,
        steps_per_epoch=steps_per_epoch,
        batch_size=recipe.batch_size,
        schedule=schedule,
        minutes=options.checkpoint_minutes,
        keep=options.keep_checkpoints,
        writes=devices.host == 0,
        agree=assert_same_step if devices.hosts > 1 else None,
        callbacks=callbacks,
        verbose=verbose if devices.host == 0 else 0,
    )
    return model, history


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
    batches = batches.map(pad).prefetch(tf.data.AUTOTUNE)
    if bad_images == "skip":
        return batches
    # Else Keras warns that it ended.
    return batches.apply(tf.data.experimental.assert_cardinality(-(-len(source) // size)))


def save_recipe(recipe, path):
    """Writes a recipe as YAML."""
    text = yaml.safe_dump(_plain(dataclasses.asdict(recipe)), sort_keys=False)
    with replacing(Path(path), overwrite=True) as temporary:
        temporary.write_text(text)


def load_recipe(path):
    """Reads a recipe that `save_recipe` wrote, or a run's `recipe.yaml`.

    Raises:
        ValueError: If the file is no recipe; the message names what is wrong.
    """
    try:
        values = yaml.safe_load(Path(path).read_text())
        values["preprocessing"] = Preprocessing(**values["preprocessing"])
        values["augmentation"] = Augmentation(**values["augmentation"])
        return Recipe(**values)
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: is not a recipe ({error})") from error


def find_recipe(name, variant=None):
    """The recipe that an option `--recipe` names.

    Args:
        name: Str, a key of `RECIPES` or the path of a .yaml file that `save_recipe` wrote.
        variant: Str, published name of the model that a recipe of `RECIPES` is to be for. `None`
            means its own choice; `small` has none.

    Raises:
        ValueError: If the name is neither; or as `load_recipe`.
    """
    if name.endswith((".yaml", ".yml")):
        return load_recipe(name)
    if name not in RECIPES:
        raise ValueError(
            f"--recipe: expected a .yaml file or one of {', '.join(RECIPES)}, got {name!r}"
        )
    return RECIPES[name](*([variant] if variant and name != "small" else []))


def _plain(value):
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _save_recipe(recipe, out):
    path = out / RECIPE_FILE
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        save_recipe(recipe, path)
        return
    before, now = (_plain(dataclasses.asdict(r)) for r in (load_recipe(path), recipe))
    different = [name for name in now if now[name] != before[name]]
    if different:
        name = different[0]
        raise ValueError(
            f"{path}: is of another recipe: {', '.join(different)} differ ({name} is "
            f"{before[name]!r} there, {now[name]!r} here). Choose another "
            "folder, or the same recipe"
        )


def _save_models(model, recipe, classes, out):
    """For use: the weights in float32 models that know nothing of optimizers and strategies."""
    fresh = build_model(recipe, classes, weights=False)
    fresh.set_weights(model.get_weights())
    write_model(out / MODEL_FILE, fresh, overwrite=True)
    pairs = averages(model)
    if pairs:
        average = {variable.path: keras.ops.convert_to_numpy(a) for variable, a in pairs}
        for variable in fresh.weights:
            if variable.path in average:
                variable.assign(average[variable.path])
        write_model(out / EMA_FILE, fresh, overwrite=True)
