#!/usr/bin/env python3
"""Trains a T2T-ViT and a vanilla ViT of equal size on Fashion-MNIST, and draws what they see.

    python scripts/compare_features.py --out runs/features

Some five minutes for each model on two CPU cores. In the folder are then `t2t_vit.keras` and
`vit.keras`, `feature_maps.png`, their channels side by side, and `results.json`, their accuracy and
dead channels. Models that are in the folder already are taken as they are.
"""

import argparse
import io
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

import keras_t2t
from keras_t2t.inspection import dead_channels, feature_maps, plot_feature_maps

DATA = Path(__file__).resolve().parents[1] / "examples/data/fashion_mnist_subset/1.0.0"
MEAN, STD = 0.2860, 0.3530  # of Fashion-MNIST's pixels between 0 and 1
PREPROCESSING = keras_t2t.Preprocessing(28, 28, (MEAN,), (STD,), crop_fraction=None)
# Both have six encoder blocks on 49 tokens of 96 channels; the parameters that the T2T stages take,
# the vanilla ViT has in its MLPs.
MODELS = {
    "t2t_vit": {"token_mixer": "performer", "mlp_ratio": 2.0},
    "vit": {"token_mixer": "patch", "mlp_ratio": 2.5},
}
DRAWN = {
    "t2t_vit": ("t2t_block_0", "t2t_block_1", "projection", "encoder_block_0", "encoder_block_5"),
    "vit": (
        "projection",
        "encoder_block_0",
        "encoder_block_1",
        "encoder_block_3",
        "encoder_block_5",
    ),
}
TITLES = {"t2t_vit": "T2T-ViT", "vit": "vanilla ViT"}
COUNTED = 500  # test images, over which dead channels are counted
SHOWN = 3  # a sneaker


def build(name):
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
        **MODELS[name],
    )


def load(split):
    """Images, normalised, and labels of a split."""
    builder = tfds.builder_from_directory(DATA)
    images, labels = tfds.as_numpy(builder.as_dataset(split, batch_size=-1, as_supervised=True))
    return PREPROCESSING.normalize(images), labels


def train(model, images, labels, epochs, batch_size=128):
    steps = epochs * (len(images) // batch_size)
    rate = keras.optimizers.schedules.CosineDecay(
        1e-5, steps, alpha=0.01, warmup_target=2e-3, warmup_steps=steps // 10
    )
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.05, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # Where there is XLA, it more than halves the time; TensorFlow asks on a CPU to be asked.
        jit_compile=keras.backend.backend() != "torch",
    )
    model.fit(images, labels, batch_size, epochs, verbose=2)


def draw(name, maps, dead, image):
    figure = plot_feature_maps(
        {layer: maps[layer] for layer in DRAWN[name]}, dead, SHOWN, 16, columns=8, image=image
    )
    # Two stand side by side: smaller, so that the letters are larger beside the maps.
    figure.set_size_inches(0.55 * figure.get_size_inches())
    figure.suptitle(TITLES[name], fontweight="bold")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=140)
    return Image.open(buffer).convert("RGB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/features"), help="folder to fill")
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    images, labels = load("test")
    results, pictures = {}, []
    for name in MODELS:
        path = arguments.out / f"{name}.keras"
        if not path.exists():
            keras.utils.set_random_seed(0)
            model = build(name)
            train(model, *load("train"), arguments.epochs)
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
        pictures.append(draw(name, maps, dead, images[SHOWN] * STD + MEAN))
    (arguments.out / "results.json").write_text(json.dumps(results, indent=1))
    joined = np.hstack([picture.resize(pictures[0].size) for picture in pictures])
    Image.fromarray(joined).quantize(64).save(arguments.out / "feature_maps.png", optimize=True)


if __name__ == "__main__":
    main()
