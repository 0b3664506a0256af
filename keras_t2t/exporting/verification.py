"""An exported file against the model that it was made from."""

import time
from importlib import resources

import numpy as np

from keras_t2t.inference.predictor import batches, softmax
from keras_t2t.inference.runners import open_runner
from keras_t2t.preprocessing import Preprocessing

# float32 computes the same in another order: the largest difference, in parts of the largest
# output. The others round: the correlation of the outputs.
LARGEST_DIFFERENCE = 1e-4
CORRELATION = {"float16": 0.999, "dynamic_int8": 0.99, "int8": 0.98}
# Of whole images, where resizing rounds pixels otherwise now and then.
PREPROCESSING_CORRELATION = 0.999
TIMED_RUNS = 50
TIMED_SECONDS = 3.0


def compare(path, model, images, precision, threads=None):
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
    runner = open_runner(path, threads)
    size = runner.input_shape[0] or 1
    inputs = list(batches(images, runner.metadata, size))

    def expected_of(images):
        outputs = np.asarray(model.predict(images, batch_size=8, verbose=0), "float32")
        return softmax(outputs) if runner.metadata.output == "probabilities" else outputs

    expected = expected_of(images)
    outputs = np.concatenate([runner.run(batch) for batch in inputs])[: len(images)]
    difference = np.abs(outputs - expected)
    correlation = _correlation(outputs, expected)
    if precision == "float32":
        largest = LARGEST_DIFFERENCE * max(1.0, float(np.abs(expected).max()))
        bound, passed = f"largest difference of at most {largest:.1e}", difference.max() <= largest
    else:
        least = CORRELATION[precision]
        bound, passed = f"correlation of at least {least}", correlation >= least
    found = {
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "correlation": correlation,
        "top1_agreement": float(np.mean(outputs.argmax(-1) == expected.argmax(-1))),
    }
    if getattr(runner, "photos", None):
        photos = [_photo(image, model.input_shape[-1]) for image in bundled_images()]
        prepared = np.stack([runner.metadata.preprocessing(photo) for photo in photos])
        expected = expected_of(prepared)
        # A file of a fixed batch takes no fewer.
        several = [np.repeat(photo[None], size, axis=0) for photo in photos]
        outputs = np.concatenate([runner.run_photos(same)[:1] for same in several])
        found["preprocessing_largest_difference"] = float(np.abs(outputs - expected).max())
        found["preprocessing_correlation"] = _correlation(outputs, expected)
        passed = passed and found["preprocessing_correlation"] >= PREPROCESSING_CORRELATION
    seconds, runs = _latency(runner, inputs[0])
    return found | {
        "bound": bound,
        "passed": bool(passed),
        "latency_ms": 1000 * seconds,
        "latency_runs": runs,
        "latency_batch": size,
        "threads": runner.threads,
    }


def table(found):
    """What `export` found, to print."""
    lines = {"size": f"{found['bytes'] / 1e6:.2f} MB"}
    if "xnnpack_partitions" in found:
        lines["XNNPACK partitions"] = found["xnnpack_partitions"]
    if "opset" in found:
        lines["ONNX opset"] = found["opset"]
    if "passed" in found:
        threads = f"{found['threads']} thread(s), " if found["threads"] else ""
        lines |= {
            "images": found["images"],
            "largest difference": f"{found['largest_difference']:.2e}",
            "mean difference": f"{found['mean_difference']:.2e}",
            "correlation": f"{found['correlation']:.6f}",
            "top-1 agreement": f"{found['top1_agreement']:.1%}",
            "expected": f"{found['bound']}: {'kept' if found['passed'] else 'BROKEN'}",
            "latency": f"{found['latency_ms']:.2f} ms (batch {found['latency_batch']}, "
            f"{threads}median of {found['latency_runs']})",
        }
    if "preprocessing_correlation" in found:
        lines["whole images"] = (
            f"largest difference {found['preprocessing_largest_difference']:.2e}, correlation "
            f"{found['preprocessing_correlation']:.6f}"
        )
    return "\n".join(f"  {name:20}{value}" for name, value in lines.items())


def bundled_images():
    """16 test images of Fashion-MNIST (Zalando SE, MIT licence), uint8 (16, 28, 28)."""
    from PIL import Image

    with resources.files(__package__).joinpath("images.png").open("rb") as file:
        sheet = np.asarray(Image.open(file))
    return sheet.reshape(4, 28, 4, 28).transpose(0, 2, 1, 3).reshape(16, 28, 28)


def bundled_inputs(input_shape, preprocessing):
    """The bundled images as a model takes them: float32 (16, height, width, channels)."""
    height, width, channels = input_shape
    if preprocessing is not None and channels in (1, 3):
        return np.stack([preprocessing(image) for image in bundled_images()])
    grey = Preprocessing(height, width, mean=(0.0,), std=(1.0,), crop_fraction=None)
    return np.stack([grey(image) for image in bundled_images()]).repeat(channels, axis=-1)


def size_of(path):
    """The bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _photo(image, channels):
    """A grey image enlarged to 100 x 75 pixels, so that there is something to crop."""
    from PIL import Image

    large = np.asarray(Image.fromarray(image).resize((100, 75)))
    return np.repeat(large[..., None], channels, axis=-1)


def _correlation(found, expected):
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.corrcoef(found.ravel(), expected.ravel())[0, 1]
    # Constant outputs have none.
    return float(value) if np.isfinite(value) else float(np.allclose(found, expected))


def _latency(runner, batch):
    """Median seconds of a run, and how many runs."""
    times = []
    runner.run(batch)
    start = time.perf_counter()
    while len(times) < TIMED_RUNS and time.perf_counter() - start < TIMED_SECONDS:
        before = time.perf_counter()
        runner.run(batch)
        times.append(time.perf_counter() - before)
    return float(np.median(times)), len(times)
