#!/usr/bin/env python3
"""Trains a small T2T-ViT on real images and exports it: the whole way in one program.

    python examples/quickstart.py                          # at most 10 minutes on 2 cores
    python examples/quickstart.py --devices 2 --epochs 2   # two replicas on one CPU, briefly

It reads Fashion-MNIST from examples/data, trains under `tf.distribute.MirroredStrategy`, writes a
`.keras` file, a SavedModel and a TFLite file, loads all three again, compares them on the test
images, and draws the learning curve and a page of predictions.
"""

import argparse
import itertools
import json
import os
import sys
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

import keras_t2t
from keras_t2t.exporting.verification import size_of
from keras_t2t.inspection.plot_style import BLUE, GREY, RED, new_figure, styled
from keras_t2t.training import AdamW
from keras_t2t.training.build import draw_glorot

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "examples/data/fashion_mnist_subset/1.0.0"

EPOCHS = 30
BATCH_SIZE = 32
LEARNING_RATE = 1.5e-3
WARMUP = 0.1  # of the epochs
TIMED_STEPS = 40
# What `scale` does, told to whoever loads the model.
PREPROCESSING = keras_t2t.Preprocessing(28, 28, mean=(0.0,), std=(1.0,), crop_fraction=None)
RESERVED_SECONDS = 60  # for imports, export, comparison and pictures


def build_model(names):
    """28 x 28 pixels -> 14 x 14 tokens -> 7 x 7 tokens -> three encoder blocks -> logits."""
    backbone = keras_t2t.T2TViT(
        input_shape=(28, 28, 1),
        soft_splits=((5, 2, 2), (3, 2, 1)),
        token_dim=64,
        embed_dim=128,
        depth=3,
        num_heads=4,
        mlp_ratio=2.0,
        performer_dropout_rate=0.0,
        # With so few images the mean over the tokens learns far sooner than the class token.
        include_top=False,
        pooling="avg",
        preprocessing=PREPROCESSING,
    )
    # Keras' Dense layer, which carries the names of the classes into every file.
    head = keras_t2t.layers.Dense(len(names), class_names=names, dtype="float32", name="head")
    model = keras.Model(backbone.input, head(backbone.output), name="small_t2t_vit")
    draw_glorot(model)  # narrow layers learn sooner with it than with the published weights
    return model


def read_split(builder, split):
    """Returns all images (n, 28, 28, 1) uint8 and labels (n,) int64 of a split."""
    return tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, as_supervised=True))


def scale(images):
    """Returns uint8 pixels as float32 from 0 to 1.

    The black background stays exactly 0. Subtract a mean, and LayerNormalization blows the rounding
    errors of flat patches up, so that two runtimes differ by 3e-4 in the logits and not by 1e-5.
    """
    return tf.cast(images, tf.float32) / 255.0


def augment(image, seed):
    """Shifts an image by up to one pixel and mirrors every other one."""
    shift_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    padded = tf.pad(image, ((1, 1), (1, 1), (0, 0)))
    image = tf.image.stateless_random_crop(padded, image.shape, shift_seed)
    return tf.image.stateless_random_flip_left_right(image, flip_seed)


def training_data(images, labels, seed=0):
    """Batches of augmented images in a new order every epoch."""
    examples = tf.data.Dataset.from_tensor_slices((images, labels))
    examples = examples.shuffle(len(images), seed=seed)
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)
    return (
        tf.data.Dataset.zip(examples, seeds)
        .map(
            lambda example, seed: (scale(augment(example[0], seed)), example[1]),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        # Every batch of one size: another would be another graph to compile.
        .batch(BATCH_SIZE, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )


def strategy_over(devices):
    """A MirroredStrategy over the GPUs, or over the CPU, split into so many logical devices."""
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    physical = tf.config.list_physical_devices(kind)
    if kind == "CPU" and devices:
        tf.config.set_logical_device_configuration(
            physical[0], [tf.config.LogicalDeviceConfiguration()] * devices
        )
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    if devices and devices > len(names):
        sys.exit(f"--devices: {devices} asked for, but there are {len(names)} GPUs.")
    return tf.distribute.MirroredStrategy(names[:devices])


def precision_policy():
    """The dtype policy that the GPUs compute fastest in; float32 where there is none."""
    gpus = tf.config.list_physical_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    capability = min((d.get("compute_capability", (0, 0)) for d in details), default=(0, 0))
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"


def epochs_that_fit(model, train, test_images, seconds):
    """Times some steps at learning rate 0, which change no weight; returns epochs, at most EPOCHS.

    Args:
        model: compiled model, its learning rate 0.
        train: batched dataset, as it will be trained on.
        test_images: int, number of images that every epoch is evaluated on.
        seconds: float, the time that there is.
    """
    model.fit(train.take(2), shuffle=False, verbose=0)  # compiles
    start = time.monotonic()
    model.fit(train.take(TIMED_STEPS), shuffle=False, verbose=0)
    step = (time.monotonic() - start) / TIMED_STEPS
    # An evaluation has no backward pass and so takes about a third as long as training.
    steps_an_epoch = len(train) + test_images / BATCH_SIZE / 3
    epochs = max(1, int(min(EPOCHS, seconds / (1.2 * step * steps_an_epoch))))
    print(f"One step takes {1000 * step:.0f} ms: training for {epochs} epochs.")
    return epochs


def warmup_cosine(epochs):
    """A callback that sets the learning rate of each epoch, as the published recipe does."""
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        warmup_target=LEARNING_RATE,
        warmup_steps=WARMUP * epochs,
        decay_steps=(1 - WARMUP) * epochs,
    )
    return keras.callbacks.LearningRateScheduler(lambda epoch: float(schedule(epoch + 0.5)))


def export(model, folder):
    """Writes the model as `.keras`, SavedModel and TFLite; returns the three paths."""
    paths = folder / "model.keras", folder / "saved_model", folder / "model.tflite"
    model.save(paths[0])
    for path in paths[1:]:
        keras_t2t.export(model, path)  # verified against the model, too
    return paths


def compare(model, paths, images, labels):
    """Loads what was exported, runs the images and returns one row for each, the model first."""
    expected = model.predict(images, verbose=0)
    logits = {path.name: keras_t2t.Predictor(path).scores(images) for path in paths}
    logits = {"Keras model": expected, **logits}
    sizes = [None, *(size_of(path) for path in paths)]
    return expected, [
        {
            "name": name,
            "accuracy": float(np.mean(np.argmax(found, axis=1) == labels)),
            "largest_logit_difference": float(np.max(np.abs(found - expected))),
            "bytes": size,
        }
        for (name, found), size in zip(logits.items(), sizes, strict=True)
    ]


def print_table(rows):
    """Prints the comparison."""
    print(f"\n{'':14}{'test accuracy':>15}{'largest logit difference':>27}{'size':>11}")
    for row in rows:
        size = f"{row['bytes'] / 1e6:.2f} MB" if row["bytes"] else "-"
        difference = f"{row['largest_logit_difference']:.1e}" if row["bytes"] else "-"
        print(f"{row['name']:14}{100 * row['accuracy']:13.2f} %{difference:>27}{size:>11}")


@styled
def draw_learning_curve(history):
    """Draws loss and accuracy over the epochs."""
    figure = new_figure(4)
    epochs = range(1, len(history["loss"]) + 1)
    titles = {"loss": "Loss (cross-entropy)", "accuracy": "Accuracy"}
    for axes, (key, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        axes.plot(epochs, history[key], "o-", color=GREY, label="training images, augmented")
        axes.plot(epochs, history[f"val_{key}"], "o-", color=BLUE, label="test images")
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y")
    axes.yaxis.set_major_formatter("{x:.0%}")
    last = history["val_accuracy"][-1]
    place = {"xytext": (0, -18), "textcoords": "offset points", "ha": "right"}
    axes.annotate(f"{last:.2%}", (epochs[-1], last), color=BLUE, **place)
    axes.legend(loc="lower right")
    return figure


@styled
def draw_predictions(images, labels, logits, names, rows=5, columns=8):
    """Draws the first images with their predicted labels."""
    probabilities = tf.nn.softmax(logits).numpy()
    figure = new_figure(1.6 * rows)
    for index, axes in enumerate(figure.subplots(rows, columns).flat):
        predicted = int(np.argmax(logits[index]))
        right = predicted == labels[index]
        text = f"{names[predicted]}, {probabilities[index, predicted]:.0%}"
        if not right:
            text += f"\n(is {names[labels[index]]})"
        axes.imshow(images[index, ..., 0], cmap="gray_r", vmin=0, vmax=255)
        axes.set_xlabel(text, fontsize=8, color="black" if right else RED)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=GREY if right else RED, linewidth=1 if right else 2)
    return figure


def parse_arguments(arguments=None):
    def positive(kind):
        def parse(text):
            value = kind(text)
            if not value > 0:
                raise ValueError
            return value

        parse.__name__ = f"positive {kind.__name__}"
        return parse

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--devices",
        type=positive(int),
        metavar="N",
        help="devices to mirror the model on: GPUs, or else logical ones the CPU is split into "
        "(default: all GPUs, or else the CPU as one)",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=positive(float),
        default=10.0,
        help=f"time for all of it; as many epochs as fit, at most {EPOCHS} (default: 10)",
    )
    length.add_argument("--epochs", type=positive(int), help="train exactly so many epochs")
    parser.add_argument(
        "--out",
        type=Path,
        help="output folder, which must not exist yet (default: runs/quickstart, or the first of "
        "runs/quickstart-2, -3, ... that does not)",
    )
    options = parser.parse_args(arguments)
    if options.out is None:
        first = ROOT / "runs/quickstart"
        others = (first.with_name(f"quickstart-{number}") for number in itertools.count(2))
        options.out = next(path for path in itertools.chain([first], others) if not path.exists())
    elif options.out.exists():
        parser.error(f"--out: {options.out} is there already.")
    return options


def main(arguments=None):
    start = time.monotonic()
    options = parse_arguments(arguments)
    strategy = strategy_over(options.devices)  # before TensorFlow computes anything
    keras.utils.set_random_seed(0)

    builder = tfds.builder_from_directory(DATA)
    names = builder.info.features["label"].names
    train_images, train_labels = read_split(builder, "train")
    test_images, test_labels = read_split(builder, "test")
    test_inputs = scale(test_images).numpy()
    train = training_data(train_images, train_labels)
    test = tf.data.Dataset.from_tensor_slices((test_inputs, test_labels)).batch(200)

    replicas = strategy.num_replicas_in_sync
    on_cpu = not tf.config.list_physical_devices("GPU")
    policy = precision_policy()
    keras.config.set_dtype_policy(policy)
    with strategy.scope():
        model = keras_t2t.fuse(build_model(names))  # the same, computed faster
        model.compile(
            AdamW(learning_rate=0.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            # XLA trains two to three times as fast on a CPU, but cannot span several replicas.
            jit_compile=on_cpu and replicas == 1,
        )
    print(
        f"{len(train_images)} training and {len(test_images)} test images of {len(names)} classes; "
        f"{model.count_params():,} parameters; {replicas} replica(s), {policy}"
    )

    epochs = options.epochs
    if not epochs:
        left = 60 * options.minutes - RESERVED_SECONDS - (time.monotonic() - start)
        epochs = epochs_that_fit(model, train, len(test_images), left)
    history = model.fit(
        train,
        epochs=epochs,
        shuffle=False,  # the dataset does it
        validation_data=test,
        callbacks=[warmup_cosine(epochs)],
        verbose=1 if sys.stdout.isatty() else 2,
    ).history

    # For use: the trained weights in a float32 model that knows nothing of strategies.
    keras.config.set_dtype_policy("float32")
    tf.config.experimental.enable_tensor_float_32_execution(False)
    inference = build_model(names)
    inference.set_weights(model.get_weights())
    options.out.mkdir(parents=True, exist_ok=True)
    paths = export(inference, options.out)
    logits, rows = compare(inference, paths, test_inputs, test_labels)
    print_table(rows)

    draw_learning_curve(history).savefig(options.out / "learning_curve.png", dpi=150)
    predictions = draw_predictions(test_images, test_labels, logits, names)
    predictions.savefig(options.out / "predictions.png", dpi=150)
    seconds = time.monotonic() - start
    results = {"epochs": epochs, "replicas": replicas, "seconds": seconds, "models": rows}
    (options.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{epochs} epochs, {seconds / 60:.1f} minutes in all. Written to {options.out}:")
    print("  " + ", ".join(sorted(path.name for path in options.out.iterdir())))
    if max(row["largest_logit_difference"] for row in rows) > 1e-4:
        sys.exit("An export differs from the Keras model by more than 1e-4.")


if __name__ == "__main__":
    main()
