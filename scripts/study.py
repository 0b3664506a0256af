#!/usr/bin/env python3
"""Three small studies on Fashion-MNIST; every run that is finished is taken as it is.

    python scripts/study.py vit --epochs 6 --out runs/compare

The paper's claim in small: T2T-ViT against a vanilla ViT of equal size, both trained by one recipe,
with the same seeds, on all 60,000 images. In the folder are then a folder for each run,
`results.json`, `table.md` and `compare_with_vit.png`.

    python scripts/study.py transfer --images 20 --out runs/transfer

What pretraining is worth: a small T2T-ViT is pretrained on five classes. Then the same model is
trained on a few images of each of the other five, once from these weights and once from scratch,
with the same recipe and the same images, and is tested on all test images of those five. The table
is in `table.md`.

    python scripts/study.py features --out runs/features

What the channels of a T2T-ViT and of a vanilla ViT of equal size see, trained on the subset that
comes with the repository, some five minutes for each on two CPU cores. In the folder are then
`t2t_vit.keras` and `vit.keras`, `feature_maps.png`, their channels side by side, and
`results.json`, their accuracy and dead channels.

Stop `vit` and `transfer` at any time; the same command resumes. Their data are the four gzipped
files of Fashion-MNIST (Debian: dataset-fashion-mnist).
"""

import argparse
import csv
import dataclasses
import io
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image

import keras_t2t
from keras_t2t.data.idx import IDX_FILES, read_idx
from keras_t2t.inspection import dead_channels, feature_maps, plot_feature_maps
from keras_t2t.inspection.plot_style import BLUE, ORANGE, new_figure, styled
from keras_t2t.training import TrainingInterrupted, load_recipe, small, train

DATA = Path("/usr/share/datasets/fashion-mnist")
SUBSET = Path(__file__).resolve().parents[1] / "examples/data/fashion_mnist_subset/1.0.0"
TITLES = {"t2t_vit": "T2T-ViT", "vit": "vanilla ViT"}
COLORS = {"t2t_vit": BLUE, "vit": ORANGE}
# Both have five encoder blocks on 49 tokens of 96 channels; the parameters that the T2T stage
# takes, the vanilla ViT has in its MLPs.
SHARED = {"soft_splits": [[5, 2, 2], [3, 2, 1]], "embed_dim": 96, "depth": 5, "num_heads": 3}
MODELS = {
    "t2t_vit": {**SHARED, "token_dim": 32, "mlp_ratio": 2.0, "performer_dropout_rate": 0.0},
    "vit": {**SHARED, "token_mixer": "patch", "mlp_ratio": 2.355},
}


def finished_or_trained(recipe, data, out):
    """Trains, or takes what is finished; returns the results.

    Raises:
        ValueError: If the folder holds a run by another recipe.
    """
    if (out / "results.json").exists():
        before = load_recipe(out / "recipe.yaml")
        for field in dataclasses.fields(recipe):
            if getattr(before, field.name) != getattr(recipe, field.name):
                raise ValueError(
                    f"{out}: holds a run with another {field.name}. Choose another --out"
                )
    else:
        print(out.name, flush=True)
        train(recipe, data, out, verbose=2)
    return json.loads((out / "results.json").read_text())


def percent(values, digits):
    """The mean, and where there are several the standard deviation."""
    spread = f" ± {100 * np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.{digits}f}{spread} %"


def write_table(folder, heading, rows):
    """Writes `table.md`, and prints it."""
    lines = [heading, ["---"] * len(heading), *rows]
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    (folder / "table.md").write_text(text)
    print("\n" + text)


# T2T-ViT against a vanilla ViT.


def vit_recipe(name, seed, epochs):
    settings = {"model": MODELS[name], "epochs": epochs, "seed": seed}
    return dataclasses.replace(small(), **settings, batch_size=64, learning_rate=1.5e-3)


def vit_run(name, seed, options):
    """The results of a run and the rows of its log."""
    out, recipe = options.out / f"{name}-{seed}", vit_recipe(name, seed, options.epochs)
    results = finished_or_trained(recipe, options.data, out)
    with open(out / "log.csv", newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return results, rows


def study_vit(options):
    runs = {name: [] for name in MODELS}
    for seed in range(options.seeds):
        for name, found in runs.items():
            found.append(vit_run(name, seed, options))
    rows = []
    for name, found in runs.items():
        results, logs = zip(*found, strict=True)
        minutes = np.mean([sum(row["seconds"] for row in log) for log in logs]) / 60
        top1 = [
            percent([result[key] for result in results], 2) for key in ("val_top1", "ema_val_top1")
        ]
        parameters = f"{results[0]['parameters']:,}"
        rows.append([TITLES[name], parameters, str(len(found)), *top1, f"{minutes:.1f}"])
    heading = ["model", "parameters", "seeds", "top-1", "averaged weights", "minutes a run"]
    write_table(options.out, heading, rows)
    numbers = {name: [result for result, _ in found] for name, found in runs.items()}
    (options.out / "results.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw_curves(runs).savefig(options.out / "compare_with_vit.png", dpi=130)


@styled
def draw_curves(runs):
    """Test accuracy of the averaged weights over the epochs, a line for each seed."""
    figure = new_figure(5)
    axes = figure.subplots()
    for name, found in runs.items():
        for number, (_, rows) in enumerate(found):
            epochs = [row["epoch"] for row in rows]
            accuracy = [100 * row["ema_val_top1"] for row in rows]
            label = None if number else TITLES[name]
            axes.plot(epochs, accuracy, color=COLORS[name], label=label, marker="o")
    axes.set_title("Fashion-MNIST test accuracy, %")
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y")
    axes.legend(loc="lower right")
    return figure


# What pretraining is worth.

FIRST, SECOND = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
BATCH = 20
# An epoch is of so many copies of the few images, since a look at all test images takes longer.
COPIES = 10


def load_classes(folder, split, classes, count=None, seed=0):
    """Images and labels of some classes, all or `count` random ones of each."""
    images, labels = (read_idx(folder / name) for name in IDX_FILES[split])
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:count] for label in classes]
    new_labels = np.repeat(np.arange(len(classes)), [len(rows) for rows in chosen])
    return images[np.concatenate(chosen), ..., None], new_labels


def study_transfer(options):
    pretraining = dataclasses.replace(
        small(), model=MODELS["t2t_vit"], epochs=options.pretraining_epochs, batch_size=64
    )
    # Warm-up and average as short as the training.
    few = dataclasses.replace(
        pretraining, epochs=options.epochs, batch_size=BATCH, learning_rate=5e-4, ema=0.99
    )
    first = {split: load_classes(options.data, split, FIRST) for split in IDX_FILES}
    finished_or_trained(pretraining, first, options.out / "pretraining")
    weights = {
        "from scratch": None,
        "pretrained": str(options.out / "pretraining/model_ema.keras"),
    }
    results = {name: [] for name in weights}
    tests = load_classes(options.data, "validation", SECOND)
    for seed in range(options.seeds):
        images, labels = load_classes(options.data, "train", SECOND, options.images, seed)
        copies = np.tile(images, (COPIES, 1, 1, 1)), np.tile(labels, COPIES)
        data = {"train": copies, "validation": tests}
        for name, start in weights.items():
            recipe = dataclasses.replace(few, weights=start, seed=seed)
            # The number of images and copies is none of the recipe.
            out = options.out / f"{name.replace(' ', '_')}-{options.images}x{COPIES}-{seed}"
            results[name].append(finished_or_trained(recipe, data, out)["ema_val_top1"])
    heading = [f"{options.images} images a class, {options.seeds} draws", "top-1"]
    rows = [[name, percent(values, 1)] for name, values in results.items()]
    write_table(options.out, heading, rows)


# What the channels see.

MEAN, STD = 0.2860, 0.3530  # of Fashion-MNIST's pixels between 0 and 1
PREPROCESSING = keras_t2t.Preprocessing(28, 28, (MEAN,), (STD,), crop_fraction=None)
# Both have six encoder blocks on 49 tokens of 96 channels; the parameters that the T2T stages take,
# the vanilla ViT has in its MLPs.
FEATURE_MODELS = {
    "t2t_vit": {"token_mixer": "performer", "mlp_ratio": 2.0},
    "vit": {"token_mixer": "patch", "mlp_ratio": 2.5},
}
# The layers that are drawn, of five each.
STEMS = {"t2t_vit": ("t2t_block_0", "t2t_block_1", "projection"), "vit": ("projection",)}
BLOCKS = {"t2t_vit": (0, 5), "vit": (0, 1, 3, 5)}
COUNTED = 500  # test images, over which dead channels are counted
SHOWN = 3  # a sneaker


def build_feature_model(name):
    return keras_t2t.T2TViT(
        input_shape=(28, 28, 1),
        soft_splits=((3, 1, 1), (3, 2, 1), (3, 2, 1)),
        token_dim=32,
        embed_dim=96,
        depth=6,
        num_heads=3,
        drop_path_rate=0.1,
        classes=10,
        classifier_activation=None,
        seed=0,
        # It travels in the file, for `keras-t2t visualize`.
        preprocessing=PREPROCESSING,
        name=name,
        **FEATURE_MODELS[name],
    )


def load_subset(split):
    """Images, normalised, and labels of a split."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(SUBSET)
    images, labels = tfds.as_numpy(builder.as_dataset(split, batch_size=-1, as_supervised=True))
    return PREPROCESSING.normalize(images), labels


def fit(model, images, labels, epochs, batch_size=128):
    steps = epochs * (len(images) // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(
        1e-5, steps, alpha=0.01, warmup_target=2e-3, warmup_steps=steps // 10
    )
    model = keras_t2t.fuse(model)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.05, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # Where there is XLA, it more than halves the time; TensorFlow asks on a CPU to be asked.
        jit_compile=keras.backend.backend() != "torch",
    )
    model.fit(images, labels, batch_size, epochs, verbose=2)


def draw_features(name, maps, dead, image):
    layers = [*STEMS[name], *(f"encoder_block_{block}" for block in BLOCKS[name])]
    drawn = {layer: maps[layer] for layer in layers}
    figure = plot_feature_maps(drawn, dead, SHOWN, 16, columns=8, image=image)
    # Two stand side by side: smaller, so that the letters are larger beside the maps.
    figure.set_size_inches(0.55 * figure.get_size_inches())
    figure.suptitle(TITLES[name], fontweight="bold")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=140)
    return Image.open(buffer).convert("RGB")


def study_features(options):
    images, labels = load_subset("test")
    results, pictures = {}, []
    for name in FEATURE_MODELS:
        path = options.out / f"{name}.keras"
        if not path.exists():
            keras.utils.set_random_seed(0)
            model = build_feature_model(name)
            fit(model, *load_subset("train"), options.epochs)
            model.save(path)
        model = keras.saving.load_model(path)
        predicted = model.predict(images, batch_size=250, verbose=0).argmax(axis=1)
        maps = feature_maps(model, images[:COUNTED])
        dead = dead_channels(maps)
        results[name] = {
            "parameters": model.count_params(),
            "accuracy": float(np.mean(predicted == labels)),
            "dead_channels": dead.rows,
        }
        print(f"\n{TITLES[name]}, accuracy {results[name]['accuracy']:.4f}\n{dead.table()}")
        pictures.append(draw_features(name, maps, dead, images[SHOWN] * STD + MEAN))
    (options.out / "results.json").write_text(json.dumps(results, indent=1))
    joined = np.hstack([picture.resize(pictures[0].size) for picture in pictures])
    Image.fromarray(joined).quantize(64).save(options.out / "feature_maps.png", optimize=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    studies = parser.add_subparsers(required=True, metavar="STUDY")
    for name, study, folder, epochs in (
        ("vit", study_vit, "compare", 6),
        ("transfer", study_transfer, "transfer", 10),
        ("features", study_features, "features", 10),
    ):
        sub = studies.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        sub.set_defaults(study=study)
        sub.add_argument("--out", type=Path, default=Path("runs", folder), help="folder to fill")
        sub.add_argument("--epochs", type=int, default=epochs, help="of every run")
        if name != "features":
            sub.add_argument("--data", type=Path, default=DATA, help="folder of the four files")
            sub.add_argument("--seeds", type=int, default=3, help="how many runs of each kind")
        if name == "transfer":
            sub.add_argument("--images", type=int, default=20, help="of each class")
            sub.add_argument("--pretraining-epochs", type=int, default=4, help="of the first run")
    options = parser.parse_args(arguments)
    if getattr(options, "images", BATCH) * len(SECOND) < BATCH:
        parser.error(f"--images: expected at least {BATCH // len(SECOND)}, got {options.images}")
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        options.study(options)
    except TrainingInterrupted:
        sys.exit("Stopped. The same command resumes.")
    except (ValueError, OSError) as error:
        sys.exit(f"study.py: error: {error}")


if __name__ == "__main__":
    main()
