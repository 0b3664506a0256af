"""Puts the page, its runtime and a model into one folder, for any static web server.

keras-t2t export my.keras model.onnx --format onnx --with-preprocessing --with-softmax
python examples/web/build.py model.onnx runs/web
python -m http.server --directory runs/web

The runtime, onnxruntime-web, comes from npm, once. The page itself loads nothing from elsewhere.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras_t2t

HERE = Path(__file__).parent
PAGE = ("index.html", "style.css", "app.js", "resize.js")
RUNTIME = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)


def build(model, folder):
    """Builds the page.

    Args:
        model: Path of an ONNX model that takes pixels and gives probabilities.
        folder: Path of the page's folder. An existing one must be a page of this function's.
    """
    predictor = keras_t2t.Predictor(model)
    metadata = predictor.metadata
    kind = Path(model).suffix.lower(), metadata.pixels, metadata.output
    if kind != (".onnx", True, "probabilities") or predictor.input_shape[0] not in (1, None):
        raise ValueError(
            f"{model}: expected a model of batch 1 or dynamic that `keras-t2t export --format onnx "
            "--with-preprocessing --with-softmax` wrote"
        )
    folder = Path(folder)
    if folder.exists() and not (folder / "vendor").is_dir():
        raise ValueError(f"{folder} exists and is no page that this program built")
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError("npm is missing. It comes with Node.js")
    subprocess.run(
        [npm, "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"],
        cwd=HERE,
        check=True,
    )
    vendor = folder / "vendor"
    vendor.mkdir(parents=True, exist_ok=True)
    for name in RUNTIME:
        shutil.copy(HERE / "node_modules/onnxruntime-web/dist" / name, vendor)
    for name in PAGE:
        shutil.copy(HERE / name, folder)
    shutil.copy(model, folder / "model.onnx")
    about = {
        "preprocessing": dataclasses.asdict(predictor.preprocessing),
        "labels": [name.replace("_", " ") for _, name in predictor.classes],
    }
    (folder / "model.json").write_text(json.dumps(about), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="an ONNX model with preprocessing and softmax")
    parser.add_argument("folder", help="folder of the page")
    arguments = parser.parse_args()
    try:
        build(arguments.model, arguments.folder)
    except (ValueError, OSError, ImportError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    print(f"{arguments.folder}: python -m http.server --directory {arguments.folder}")
