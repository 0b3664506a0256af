#!/usr/bin/env python3
"""What pretraining is worth: half of the classes first, then few images of the other half.

    python scripts/transfer_gain.py --images 20 --out runs/transfer

A small T2T-ViT is pretrained on five classes of Fashion-MNIST. Then the same model is trained on a
few images of each of the other five, once from these weights and once from scratch, with the same
recipe and the same images, and is tested on all test images of those five. Stop it at any time; the
same command goes on where it was.
"""

import argparse
import dataclasses
import gzip
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from compare_with_vit import DATA, MODELS, finished

from keras_t2t.training import TrainingInterrupted, small, train

FIRST, SECOND = (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)
FILES = {"train": "train", "validation": "t10k"}
BATCH = 20
# An epoch is of so many copies of the few images, since a look at all test images takes longer.
COPIES = 10


def load(folder, split, classes, count=None, seed=0):
    """Images and labels of some classes, all or `count` random ones of each."""
    prefix = FILES[split]
    pixels = gzip.decompress((folder / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    numbers = gzip.decompress((folder / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
    labels = np.frombuffer(numbers, np.uint8, offset=8)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:count] for label in classes]
    new_labels = np.repeat(np.arange(len(classes)), [len(rows) for rows in chosen])
    return images[np.concatenate(chosen)], new_labels


def run(out, recipe, data):
    """Trains, or takes what is finished; returns the results."""
    if not finished(out, recipe):
        print(out.name, flush=True)
        train(recipe, data, out, verbose=2)
    return json.loads((out / "results.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder (default {DATA})")
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"), help="folder to fill")
    parser.add_argument("--images", type=int, default=20, help="of each class (default 20)")
    parser.add_argument("--pretraining-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=10, help=f"of {COPIES} copies (default 10)")
    parser.add_argument("--seeds", type=int, default=3, help="how many draws (default 3)")
    arguments = parser.parse_args()
    if arguments.images * len(SECOND) < BATCH:
        parser.error(f"--images: expected at least {BATCH // len(SECOND)}, got {arguments.images}")
    try:
        measure(arguments)
    except TrainingInterrupted:
        sys.exit("Stopped. The same command goes on from here.")
    except (ValueError, OSError) as error:
        sys.exit(f"transfer_gain.py: error: {error}")


def measure(arguments):
    pretraining = dataclasses.replace(
        small(), model=MODELS["t2t_vit"], epochs=arguments.pretraining_epochs, batch_size=64
    )
    # Warm-up and average as short as the training.
    few = dataclasses.replace(
        pretraining, epochs=arguments.epochs, batch_size=BATCH, learning_rate=5e-4, ema=0.99
    )
    tests = {name: load(arguments.data, "validation", c) for name, c in _halves()}
    results = {"from scratch": [], "pretrained": []}
    first = {"train": load(arguments.data, "train", FIRST), "validation": tests["first"]}
    run(arguments.out / "pretraining", pretraining, first)
    weights = str(arguments.out / "pretraining/model_ema.keras")
    for seed in range(arguments.seeds):
        images, labels = load(arguments.data, "train", SECOND, arguments.images, seed)
        images, labels = np.tile(images, (COPIES, 1, 1, 1)), np.tile(labels, COPIES)
        data = {"train": (images, labels), "validation": tests["second"]}
        for name, start in (("from scratch", None), ("pretrained", weights)):
            recipe = dataclasses.replace(few, weights=start, seed=seed)
            # The number of images and copies is none of the recipe.
            out = arguments.out / f"{name.replace(' ', '_')}-{arguments.images}x{COPIES}-{seed}"
            results[name].append(run(out, recipe, data)["ema_val_top1"])
    text = (
        f"| {arguments.images} images a class, {arguments.seeds} draws | top-1 |\n| --- | --- |\n"
    )
    for name, values in results.items():
        spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        text += f"| {name} | {100 * np.mean(values):.1f}{spread} % |\n"
    (arguments.out / "table.md").write_text(text)
    print("\n" + text)


def _halves():
    return ("first", FIRST), ("second", SECOND)


if __name__ == "__main__":
    main()
