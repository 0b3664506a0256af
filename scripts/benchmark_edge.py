#!/usr/bin/env python3
"""How fast exported models are beside OpenVINO: `python scripts/benchmark_edge.py`.

    pip install keras_t2t[export] openvino
    python scripts/benchmark_edge.py --threads 2 --files runs/edge

Exports each variant for LiteRT in every precision and as ONNX (files that are there already are
taken as they are), then runs all of them in turn on one image, round after round, so that whatever
else the machine does slows all of them alike. Times are medians in a steady state, ratios are to
OpenVINO in float32 on our ONNX file, which has the arrangement of the LiteRT file; what OpenVINO
makes of the graph as Keras draws it stands beside it. Weights are fresh: speed and size do not
depend on them.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

import keras_t2t
from keras_t2t.exporting.litert import xnnpack_partitions
from keras_t2t.exporting.onnx import convert
from keras_t2t.exporting.serving import images_spec
from keras_t2t.inference.runners import open_runner
from keras_t2t.rewrite.export import for_inference

ONNX, PLAIN = "ONNX Runtime float32", "ONNX Runtime, plain graph"
PRECISIONS = ("float32", "float16", "dynamic_int8", "int8")
SIZE = 224
PAUSE = 0.05  # seconds
# Runs before the one that counts: after a pause the system wakes both threads on one core, and only
# some milliseconds later gives each its own.
UNTIMED = 3


def export(variant, folder):
    """The paths of all exports of a variant: `{name: path}`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {f"LiteRT {name}": folder / f"{variant}_{name}.tflite" for name in PRECISIONS}
    paths |= {ONNX: folder / f"{variant}.onnx", PLAIN: folder / f"{variant}_plain.onnx"}
    missing = {name: path for name, path in paths.items() if not path.exists()}
    if missing:
        model = keras_t2t.create(variant, classifier_activation=None)
        images = np.random.default_rng(0).normal(size=(16, SIZE, SIZE, 3)).astype("float32")
    for name, path in missing.items():
        if name == PLAIN:
            network, _ = for_inference(model)
            convert(path, network, images_spec(network, 1))
            continue
        precision = name.split()[-1]
        calibration = images if precision == "int8" else None
        keras_t2t.export(
            model,
            path,
            precision=precision,
            calibration=calibration,
            verify=False,
            verbose=False,
        )
    return paths


def openvino_runner(path, threads):
    """A function that runs an ONNX file in OpenVINO, in float32; its default may be bfloat16."""
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda image: request.infer({0: image})


def measure(runs, image, rounds):
    """Median seconds of each function, all of them in turn in each round."""
    times = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(PAUSE)  # some runtimes' threads spin on after they are done
            for _ in range(UNTIMED):
                run(image)
            start = time.perf_counter()
            run(image)
            times[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in times.items()}


def report(variant, paths, threads, rounds):
    image = np.random.default_rng(1).normal(size=(1, SIZE, SIZE, 3)).astype("float32")
    runs = {name: open_runner(path, threads).run for name, path in paths.items()}
    reference = "OpenVINO float32"
    try:
        runs[reference] = openvino_runner(paths[ONNX], threads)
        runs["OpenVINO, plain graph"] = openvino_runner(paths[PLAIN], threads)
    except ImportError:
        print("OpenVINO is not installed: no ratios.")
    seconds = measure(runs, image, rounds)
    print(f"\n{variant}, {SIZE} px, batch 1, {threads} thread(s), median of {rounds}")
    print(f"{'':26}{'ms':>8}{'ratio':>8}{'MB':>8}  XNNPACK partitions")
    for name, value in seconds.items():
        ratio = f"{value / seconds[reference]:.2f}" if reference in seconds else ""
        path = paths.get(name)
        size = f"{path.stat().st_size / 1e6:.2f}" if path else ""
        partitions = xnnpack_partitions(path) if name.startswith("LiteRT") else ""
        print(f"{name:26}{1000 * value:8.2f}{ratio:>8}{size:>8}  {partitions}")


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        default=["t2t_vit_7", "t2t_vit_14"],
        choices=keras_t2t.list_variants(),
        metavar="VARIANT",
    )
    parser.add_argument("--threads", type=positive, default=2)
    parser.add_argument("--rounds", type=positive, default=50)
    parser.add_argument("--files", type=Path, help="keep the exported files in this folder")
    parser.add_argument("--export-only", action="store_true", help="measure nothing")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.files or Path(temporary)
        for variant in options.variants:
            paths = export(variant, folder)
            if not options.export_only:
                report(variant, paths, options.threads, options.rounds)


if __name__ == "__main__":
    main()
