"""Class predictions for image files."""

import os
from collections.abc import Iterator, Sequence

import numpy as np

from keras_t2t.class_names import most_probable
from keras_t2t.inference.metadata import Labels
from keras_t2t.inference.predictor import Predictor
from keras_t2t.inference.runners import Source


def predict_images(
    model: Predictor | Source,
    images: Sequence[str | os.PathLike],
    top: int = 5,
    labels: Labels = None,
    batch_size: int = 16,
) -> Iterator[dict]:
    """Classifies image files, prepared as the model's weights ask.

    Args:
        model: A `Predictor`, or what one is made of. If the model gives logits, their softmax is
            reported.
        images: Paths of image files.
        top: Int, number of classes for each image, default 5.
        labels: As `Predictor` takes them; `None` if `model` is one.
        batch_size: Int, images at a time, default 16.

    Yields:
        For each image, in order, `{"image": path, "predictions": [...]}`, each prediction
        `{"class": id, "name": name, "probability": float}`, the most probable first; for a file
        that cannot be read, `{"image": path, "error": text}`.

    Raises:
        ValueError: If the model is no classifier, carries no preprocessing, or has another number
            of classes than there are labels.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model, labels)
    preprocessing = predictor.known_preprocessing()
    for start in range(0, len(images), batch_size):
        results, pixels = [], []
        for path in images[start : start + batch_size]:
            results.append({"image": os.fspath(path)})
            try:
                pixels.append(preprocessing(path))
            except ValueError as error:
                results[-1]["error"] = str(error)
        rows = iter(predictor.predict(np.stack(pixels)) if pixels else ())
        for result in results:
            if "error" not in result:
                result["predictions"] = [
                    {"class": key, "name": name, "probability": probability}
                    for key, name, probability in most_probable(next(rows), predictor.classes, top)
                ]
            yield result
