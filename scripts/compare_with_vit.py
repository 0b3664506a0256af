#!/usr/bin/env python3
"""The paper's claim in small: T2T-ViT against a vanilla ViT of equal size, on Fashion-MNIST.

    python scripts/compare_with_vit.py --epochs 6 --out runs/compare

Both train by one recipe, with the same seeds, on all 60,000 images, one run after the other. Stop
it at any time; the same command goes on where it was. In the folder are then a folder for each run,
`results.json`, `table.md` and `compare_with_vit.png`. The data are the four gzipped files of
Fashion-MNIST (Debian: dataset-fashion-mnist).
"""

import argparse
import csv
import dataclasses
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from keras_t2t.training import TrainingInterrupted, load_recipe, small, train

DATA = Path("/usr/share/datasets/fashion-mnist")
# Both have five encoder blocks on 49 tokens of 96 channels; the parameters that the T2T stage
# takes, the vanilla ViT has in its MLPs.
SHARED = {"soft_splits": [[5, 2, 2], [3, 2, 1]], "embed_dim": 96, "depth": 5, "num_heads": 3}
MODELS = {
    "t2t_vit": {**SHARED, "token_dim": 32, "mlp_ratio": 2.0, "performer_dropout_rate": 0.0},
    "vit": {**SHARED, "token_mixer": "patch", "mlp_ratio": 2.355},
}
TITLES = {"t2t_vit": "T2T-ViT", "vit": "vanilla ViT"}
COLORS = {"t2t_vit": "#1f5fa8", "vit": "#c77d1e"}


def recipe(name, seed, epochs):
    return dataclasses.replace(
        small(),
        model=MODELS[name],
        epochs=epochs,
        seed=seed,
        batch_size=64,
        learning_rate=1.5e-3,
    )


def finished(out, recipe):
    """Whether the training in a folder has ended.

    Raises:
        ValueError: If it has, and is one by another recipe.
    """
    if not (out / "results.json").exists():
        return False
    before = load_recipe(out / "recipe.yaml")
    different = [
        field.name
        for field in dataclasses.fields(recipe)
        if getattr(before, field.name) != getattr(recipe, field.name)
    ]
    if different:
        raise ValueError(f"{out}: holds a run with another {different[0]}. Choose another --out")
    return True


def run(name, seed, epochs, data, folder):
    """Trains, or takes what is finished; returns results and the rows of the log."""
    out, chosen = folder / f"{name}-{seed}", recipe(name, seed, epochs)
    if not finished(out, chosen):
        print(f"{TITLES[name]}, seed {seed}", flush=True)
        train(chosen, data, out, verbose=2)
    with open(out / "log.csv", newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return json.loads((out / "results.json").read_text()), rows


def table(results):
    """Markdown, a row for each model: means and standard deviations over the seeds."""
    lines = [
        "| model | parameters | seeds | top-1 | averaged weights | minutes a run |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in results.items():
        cells = []
        for key in ("val_top1", "ema_val_top1"):
            values = 100 * np.array([result[key] for result, _ in runs])
            spread = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
            cells.append(f"{values.mean():.2f}{spread} %")
        minutes = np.mean([sum(row["seconds"] for row in rows) for _, rows in runs]) / 60
        parameters = runs[0][0]["parameters"]
        lines.append(
            f"| {TITLES[name]} | {parameters:,} | {len(runs)} | {' | '.join(cells)} | "
            f"{minutes:.1f} |"
        )
    return "\n".join(lines) + "\n"


def draw(results, path):
    """Test accuracy of the averaged weights over the epochs, a line for each seed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, runs in results.items():
        for number, (_, rows) in enumerate(runs):
            axes.plot(
                [row["epoch"] for row in rows],
                [100 * row["ema_val_top1"] for row in rows],
                color=COLORS[name],
                label=None if number else TITLES[name],
                marker="o",
                markersize=3.5,
                linewidth=1.6,
            )
    axes.set_title("Fashion-MNIST test accuracy, %", loc="left", fontweight="bold")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#e4e7eb")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder (default {DATA})")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"), help="folder to fill")
    parser.add_argument("--epochs", type=int, default=6, help="of every run (default 6)")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default 3)")
    arguments = parser.parse_args()
    results = {name: [] for name in MODELS}
    try:
        for seed in range(arguments.seeds):
            for name, runs in results.items():
                runs.append(run(name, seed, arguments.epochs, arguments.data, arguments.out))
    except TrainingInterrupted:
        sys.exit("Stopped. The same command goes on from here.")
    except (ValueError, OSError) as error:
        sys.exit(f"compare_with_vit.py: error: {error}")
    text = table(results)
    (arguments.out / "table.md").write_text(text)
    numbers = {name: [result for result, _ in runs] for name, runs in results.items()}
    (arguments.out / "results.json").write_text(json.dumps(numbers, indent=2) + "\n")
    draw(results, arguments.out / "compare_with_vit.png")
    print("\n" + text)


if __name__ == "__main__":
    main()
