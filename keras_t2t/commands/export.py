"""`keras-t2t export`."""

import os
import sys
from pathlib import Path
from typing import Literal

from keras_t2t.commands import models
from keras_t2t.commands.options import Positive


def run(
    model: models.Model,
    destination: str,
    *,
    weights: models.Weights = None,
    format: str | None = None,
    precision: str = "float32",
    batch_size: Positive | Literal["dynamic"] | None = None,
    with_preprocessing: bool = False,
    with_softmax: bool = False,
    labels: models.Labels = None,
    integer_io: bool = False,
    calibration: list[str] | None = None,
    images: list[str] | None = None,
    no_verify: bool = False,
    threads: models.Threads = None,
    force: bool = False,
) -> int:
    """Export a model to SavedModel, LiteRT or ONNX, and verify the file.

    Args:
        destination: Ends in .tflite or .onnx; without a suffix, the folder of a SavedModel.
        format: One of saved_model, litert or onnx (default: as DESTINATION ends).
        precision: One of float32, float16, dynamic_int8 (recommended for the edge) or int8.
        batch_size: A number or dynamic (default: 1, for a SavedModel dynamic).
        with_preprocessing: Take uint8 pixels, not prepared images.
        with_softmax: Give probabilities, not logits.
        integer_io: With int8: take and give int8 numbers.
        calibration: With int8: images to see the ranges of values on.
        images: Images to verify with (default: 16 of our own).
        no_verify: Do not run the exported file.
        force: Replace an existing DESTINATION and its report.
    """
    from keras_t2t.exporting.options import ExportOptions

    options = ExportOptions(
        Path(destination),
        format=format,
        precision=precision,
        batch_size=batch_size,
        with_preprocessing=with_preprocessing,
        with_softmax=with_softmax,
        labels=models.read_labels(labels),
        integer_io=integer_io,
        images=models.some_images(images, "images"),
        calibration=models.some_images(calibration, "calibration"),
        verify=not no_verify,
        threads=threads,
        overwrite=force,
    )
    if "keras" not in sys.modules:  # Whichever backend trained the model, this one exports it.
        os.environ["KERAS_BACKEND"] = "tensorflow"
    opened = models.open_model(model, weights)
    from keras_t2t.exporting.exporter import write

    write(opened, options)
    return 0
