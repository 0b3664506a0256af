"""How long weights take to load and to convert: `python scripts/benchmark_loading.py`.

Files of the published keys and shapes are made of fresh weights, so nothing is downloaded. Each
figure is of a process of its own and begins after the imports; memory is the peak of the resident
set above its size after them.

    KERAS_BACKEND=jax taskset --cpu-list 0,1 python scripts/benchmark_loading.py
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import resource, sys, time
import keras, tensorflow, torch, keras_t2t  # Keras imports TensorFlow when it saves a model
from keras_t2t.zoo import convert

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

keras.ops.convert_to_numpy(keras.ops.ones(1) + 1)  # the backend starts
before, start = peak(), time.perf_counter()
{statement}
print(f"{{time.perf_counter() - start:.2f}} {{peak() - before:.0f}}")
"""


def measure(statement, environment):
    """(seconds, MiB) of a statement."""
    child = [sys.executable, "-c", MEASURE.format(statement=statement)]
    result = subprocess.run(child, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds, mebibytes = result.stdout.split()[-2:]
    return float(seconds), float(mebibytes)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["t2t_vit_14", "t2t_vit_24"])
    variants = parser.parse_args().variants
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "KERAS_HOME": folder, "TF_CPP_MIN_LOG_LEVEL": "2"}
        cache = Path(folder, "keras_t2t")
        cache.mkdir()
        print(f"{'':56} seconds    MiB  MiB / file")
        for variant in variants:
            report(variant, cache, environment)


def report(variant, cache, environment):
    from keras_t2t.weights.published import find

    stem = find(variant, "imagenet").filename.removesuffix(".pth.tar")
    source, converted = cache / "made.pth", cache / f"{stem}.safetensors"
    made = f"model = keras_t2t.create({variant!r})\n"
    made += "from keras_t2t.weights.checkpoint import write_checkpoint\n"
    made += f"write_checkpoint({str(source)!r}, keras_t2t.published_state_dict(model))"
    measure(made, environment)
    size = source.stat().st_size / 2**20
    for name, statement in {
        "convert .pth to .safetensors": f"convert({str(source)!r}, {str(converted)!r})",
        'create(weights="imagenet"), converted before': (
            f"keras_t2t.create({variant!r}, weights='imagenet')"
        ),
        "convert .pth to .keras": f"convert({str(source)!r}, {str(cache / 'made.keras')!r})",
        "convert .keras to .pth": (
            f"convert({str(cache / 'made.keras')!r}, {str(source)!r}, overwrite=True)"
        ),
    }.items():
        seconds, mebibytes = measure(statement, environment)
        print(f"{variant:11} {name:44} {seconds:7.2f} {mebibytes:6.0f} {mebibytes / size:11.1f}")
    for file in cache.glob("made*"):
        file.unlink()


if __name__ == "__main__":
    main()
