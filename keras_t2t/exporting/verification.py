"""An exported file against the model that it was made from."""

import time
from importlib import resources
from typing import Any

import keras
import numpy as np

from keras_t2t.inference.predictor import softmax
from keras_t2t.inference.runners import KerasRunner, open_runner
from keras_t2t.preprocessing import Preprocessing

# float32 computes the same in another order: the largest difference, in parts of the largest
# output. The others round: the correlation of the outputs.
LARGEST_DIFFERENCE = 1e-4
CORRELATION = {"float16": 0.999, "dynamic_int8": 0.99, "int8": 0.98}
# Of whole images, where resizing rounds pixels otherwise now and then.
PREPROCESSING_CORRELATION = 0.999
TIMED_RUNS = 50
TIMED_SECONDS = 3.0


def compare(
    path, model: keras.Model, images: np.ndarray, precision: str, threads: int | None = None
) -> dict[str, Any]:
    """Runs an exported file and its model on the same images.

    Args:
        path: Path of the file or folder.
        model: The `keras.Model` that the file was made from, with what `export` takes away from it
            taken away.
        images: float array (n, height, width, channels), prepared.
        precision: Str, that of the file, on which its bound depends.
        threads: Int, as `open_runner` takes it.

    Returns:
        Dict, for `table` and JSON: `largest_difference`, `mean_difference`, `correlation` and
        `top1_agreement` of the outputs; `bound`, what was expected of them, and `passed`;
        `latency_ms`, the median of `latency_runs` runs of a batch of `latency_batch` on `threads`,
        `None` where TensorFlow chooses their number.
        Of a SavedModel with preprocessing inside also `preprocessing_largest_difference` and
        `preprocessing_correlation`, for whole images.
    """
    runner, reference = open_runner(path, threads), KerasRunner(model, fused=False)
    size = runner.input_shape[0] or 1

    def expected_of(images):
        outputs = reference.scores(images, 8)
        return softmax(outputs) if runner.metadata.output == "probabilities" else outputs

    outputs, expected = runner.scores(images, size), expected_of(images)
    found: dict[str, Any] = _differences(outputs, expected)
    found["mean_difference"] = float(np.abs(outputs - expected).mean())
    found["top1_agreement"] = float(np.mean(outputs.argmax(-1) == expected.argmax(-1)))
    if precision == "float32":
        largest = LARGEST_DIFFERENCE * max(1.0, float(np.abs(expected).max()))
        found["bound"] = f"largest difference of at most {largest:.1e}"
        passed = found["largest_difference"] <= largest
    else:
        found["bound"] = f"correlation of at least {CORRELATION[precision]}"
        passed = found["correlation"] >= CORRELATION[precision]
    if runner.run_photos and runner.metadata.preprocessing:
        photos = [_photo(image, model.input_shape[-1]) for image in bundled_images()]
        expected = expected_of(np.stack([runner.metadata.preprocessing(photo) for photo in photos]))
        # A file of a fixed batch takes no fewer.
        several = (np.repeat(photo[None], size, axis=0) for photo in photos)
        outputs = np.concatenate([runner.run_photos(same)[:1] for same in several])
        found |= _differences(outputs, expected, "preprocessing_")
        passed = passed and found["preprocessing_correlation"] >= PREPROCESSING_CORRELATION
    batch = runner.metadata.taken(images)[np.arange(size) % len(images)]
    seconds = _seconds(lambda: runner.run(batch))
    return found | {
        "passed": passed,
        "latency_ms": 1000 * float(np.median(seconds)),
        "latency_runs": len(seconds),
        "latency_batch": size,
        "threads": runner.threads,
    }


def table(found: dict[str, Any]) -> str:
    """What `export` found, to print: a line each."""
    return "\n".join(
        f"  {name.replace('_', ' '):34}{f'{value:.6g}' if isinstance(value, float) else value}"
        for name, value in found.items()
        if value is not None
    )


def bundled_images() -> np.ndarray:
    """16 test images of Fashion-MNIST (Zalando SE, MIT licence), uint8 (16, 28, 28)."""
    from PIL import Image

    with resources.files("keras_t2t.exporting").joinpath("images.png").open("rb") as file:
        sheet = np.asarray(Image.open(file))
    return sheet.reshape(4, 28, 4, 28).transpose(0, 2, 1, 3).reshape(16, 28, 28)


def bundled_inputs(shape, preprocessing: Preprocessing | None) -> np.ndarray:
    """The bundled images as a model takes them.

    Args:
        shape: (height, width, channels).
        preprocessing: The model's, or `None`: then values are in 0..1.

    Returns:
        float32 array (16, height, width, channels).
    """
    height, width, channels = shape
    if preprocessing is None or channels not in (1, 3):
        preprocessing = Preprocessing(height, width, mean=(0.0,), std=(1.0,), crop_fraction=None)
    images = np.stack([preprocessing(image) for image in bundled_images()])
    return images.repeat(channels // images.shape[-1], axis=-1)


def size_of(path) -> int:
    """The bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _photo(image, channels):
    """A grey image enlarged to 100 x 75 pixels, so that there is something to crop."""
    from PIL import Image

    large = np.asarray(Image.fromarray(image).resize((100, 75)))
    return np.repeat(large[..., None], channels, axis=-1)


def _differences(outputs, expected, prefix=""):
    """The largest difference and the correlation of two arrays, by name."""
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.corrcoef(outputs.ravel(), expected.ravel())[0, 1]
    if not np.isfinite(correlation):  # Constant outputs have none.
        correlation = np.allclose(outputs, expected)
    largest = np.abs(outputs - expected).max()
    return {
        f"{prefix}largest_difference": float(largest),
        f"{prefix}correlation": float(correlation),
    }


def _seconds(run):
    """The seconds of each of some runs, after one that is not timed."""
    times = []
    run()
    start = time.perf_counter()
    while len(times) < TIMED_RUNS and time.perf_counter() - start < TIMED_SECONDS:
        before = time.perf_counter()
        run()
        times.append(time.perf_counter() - before)
    return times
