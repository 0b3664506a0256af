#!/usr/bin/env python3
"""From a trained model to files for the edge, and what each costs in accuracy.

    python examples/export_to_edge.py runs/quickstart/model.keras
    python examples/export_to_edge.py my.keras --data my_images --out my_exports

Writes a SavedModel that takes JPEG files, an ONNX file, and LiteRT files in four precisions; each
is held against the model before it is kept. Then all of them classify the same labelled images, by
default those of the bundled Fashion-MNIST subset.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras_t2t
from keras_t2t.data.decoding import naming_bad_images
from keras_t2t.data.pipeline import evaluation_batches
from keras_t2t.data.sources import open_source
from keras_t2t.inference.evaluate import evaluate
from keras_t2t.weights.keras_files import read_model

ROOT = Path(__file__).resolve().parent.parent
CALIBRATION_IMAGES = 64


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a .keras file that carries its preprocessing")
    parser.add_argument("--data", default=ROOT / "examples/data/fashion_mnist_subset/1.0.0")
    parser.add_argument("--out", type=Path, default=ROOT / "runs/edge")
    options = parser.parse_args(arguments)
    try:
        export_all(options.model, options.data, options.out)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


def export_all(source, data, out):
    model = read_model(source)
    preprocessing = keras_t2t.Predictor(model).preprocessing
    if preprocessing is None:
        raise ValueError(
            f"{source}: expected a model that says how images are prepared. "
            "T2TViT(..., preprocessing=...) puts that in."
        )
    train = open_source(data, "train")
    if train.num_classes != model.output_shape[-1]:
        raise ValueError(
            f"{data}: expected the {model.output_shape[-1]} classes of {source}, got "
            f"{train.num_classes}"
        )
    with naming_bad_images():
        calibration, _ = next(iter(evaluation_batches(train, preprocessing, CALIBRATION_IMAGES)))
    out.mkdir(parents=True, exist_ok=True)

    files = {
        "saved_model": {"with_preprocessing": True},
        "model.onnx": {},
        "float32.tflite": {},
        "float16.tflite": {"precision": "float16"},
        "dynamic_int8.tflite": {"precision": "dynamic_int8"},
        "int8.tflite": {"precision": "int8", "calibration": calibration.numpy()},
    }
    found = {}
    for name, choices in files.items():
        path = out / name
        found[path] = keras_t2t.export(
            model, path, labels=train.class_names, overwrite=True, **choices
        )

    print(f"\n{'':22}{'top-1':>9}{'MB':>8}{'ms':>8}")
    print(f"{source.name:22}{accuracy(model, data):9.2%}")
    for path, export in found.items():
        size, latency = export["bytes"] / 1e6, export["latency_ms"]
        print(f"{path.name:22}{accuracy(path, data):9.2%}{size:8.2f}{latency:8.2f}")


def accuracy(model, data):
    return evaluate(keras_t2t.Predictor(model), data)["top1"]


if __name__ == "__main__":
    main()
