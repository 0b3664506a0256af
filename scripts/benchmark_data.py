"""Images per second of the training pipeline: `python scripts/benchmark_data.py`.

JPEG files of 500 x 375 pixels become normalised 224 px batches with the published augmentation.
Each stage is timed alone on one core, then the whole pipeline on one core, two, four and so on, in
processes of their own that run one after the other, several rounds. No figure says anything about
another machine; the ratios do.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375
BATCH_SIZE = 64
IMAGES = 512
ROUNDS = 3


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement (default 8)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        folder, what = arguments.child.split(":")
        measure = stages if what == "stages" else whole
        print(json.dumps(measure(folder, arguments.seconds)))
        return
    cores = sorted(os.sched_getaffinity(0))
    numbers = [2**power for power in range(8) if 2**power <= len(cores)]
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder))
        print("stage, one core           microseconds an image")
        for name, seconds in child(folder, "stages", cores[:1], arguments.seconds).items():
            print(f"{name:25} {1e6 * seconds:8.0f}")
        rates = {number: [] for number in numbers}
        for _ in range(ROUNDS):
            for number in numbers:
                rates[number].append(child(folder, "whole", cores[:number], arguments.seconds))
    print(f"\ncores  images/s (median of {ROUNDS})  of one core")
    medians = {number: statistics.median(values) for number, values in rates.items()}
    for number, rate in medians.items():
        spread = f"{min(rates[number]):.0f}..{max(rates[number]):.0f}"
        print(f"{number:5}  {rate:8.0f}  {spread:>12}  {rate / medians[1]:8.2f}")


def write_images(folder):
    """Photograph-like JPEG files: smooth shapes with fine detail, about 60 kB each."""
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), "uint8"))
        pixels = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), "float32")
        pixels += rng.normal(0, 8, pixels.shape)
        path = folder / "train" / f"class_{number % 2}" / f"{number}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).save(path, quality=90)


def child(folder, what, cores, seconds):
    """What a process on these cores measures."""
    command = [sys.executable, __file__, "--child", f"{folder}:{what}", "--seconds", str(seconds)]
    result = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    return json.loads(result.stdout.splitlines()[-1])


def whole(folder, seconds):
    """Images per second of training batches."""
    from keras_t2t import Preprocessing
    from keras_t2t.data.augment import Augmentation
    from keras_t2t.data.pipeline import training_batches
    from keras_t2t.data.sources import open_source

    source = open_source(folder, "train")
    batches = training_batches(source, Augmentation(), BATCH_SIZE, 0, preprocessing=Preprocessing())
    # What tf.data has ready before the clock starts is bounded by a few batches.
    return BATCH_SIZE / seconds_each(batches, seconds, skip=4)


def stages(folder, seconds):
    """Seconds an image of each stage alone, less those of an empty one."""
    import tensorflow as tf

    from keras_t2t import Preprocessing
    from keras_t2t.data import decoding, pipeline
    from keras_t2t.data.augment import Augmentation
    from keras_t2t.data.cropping import random_box, random_flip, resize
    from keras_t2t.data.erasing import random_erasing
    from keras_t2t.data.mixing import mix
    from keras_t2t.data.randaugment import rand_augment

    augmentation, preprocessing = Augmentation(), Preprocessing()
    paths = sorted(str(path) for path in Path(folder).rglob("*.JPEG"))
    files = [tf.io.read_file(path) for path in paths[:64]]

    def crop(image, seed):
        def box(shape):
            return random_box(shape, seed, augmentation.crop_area, augmentation.crop_ratio)

        return decoding.decode(image, 3, box)

    def bicubic(image, seed):
        return tf.random.stateless_uniform((), seed) < 0.5

    crops = [crop(file, [0, number]) for number, file in enumerate(files)]
    small = [resize(pixels, (224, 224), True) for pixels in crops]
    normal = [pipeline.normalized(pixels, preprocessing) for pixels in small]
    fill = (124, 116, 104)
    batch, labels = tf.stack(normal), tf.range(64)
    each = seconds / 10
    timed = {
        "nothing": seconds_of(lambda image, seed: image, small, each),
        "decode the crop": seconds_of(crop, files, each),
        "resize": seconds_of(
            lambda image, seed: resize(image, (224, 224), bicubic(image, seed)), crops, each
        ),
        "flip": seconds_of(lambda image, seed: random_flip(image, 0.5, seed), small, each),
        "RandAugment": seconds_of(
            lambda image, seed: rand_augment(image, seed, augmentation, fill), small, each
        ),
        "normalise": seconds_of(
            lambda image, seed: pipeline.normalized(image, preprocessing), small, each
        ),
        "erase": seconds_of(
            lambda image, seed: random_erasing(image, seed, augmentation), normal, each
        ),
    }
    empty = timed.pop("nothing")
    timed = {name: value - empty for name, value in timed.items()}
    mixing = seconds_of(
        lambda number, seed: mix(batch, labels, 1000, seed, augmentation), [0] * 2, each
    )
    return {**timed, "Mixup, CutMix": mixing / 64}


def seconds_of(stage, inputs, seconds):
    """Seconds a call of `stage(input, seed)`."""
    import tensorflow as tf

    cases = tf.data.Dataset.counter().map(lambda number: tf.stack([number, number]))
    branches = [lambda value=value: value for value in inputs]

    def call(seed):
        chosen = tf.cast(seed[0] % len(inputs), tf.int32)
        return stage(tf.switch_case(chosen, branches), seed)

    return seconds_each(cases.map(call, num_parallel_calls=1), seconds, skip=2)


def seconds_each(dataset, seconds, skip):
    """Seconds from one element to the next."""
    iterator = iter(dataset)
    for _ in range(skip):
        next(iterator)
    start, number = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        next(iterator)
        number += 1
    return (time.perf_counter() - start) / number


if __name__ == "__main__":
    main()
