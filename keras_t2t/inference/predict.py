"""Class predictions for image files."""

import glob
import os
from pathlib import Path

import numpy as np

from keras_t2t.inference.predictor import Predictor

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def find_images(sources):
    """Lists the image files behind files, folders and glob patterns.

    Args:
        sources: Paths. A folder stands for the files in it and its subfolders that have one of
            `IMAGE_SUFFIXES`; in a pattern, such as `"photos/*.jpg"`, `**` stands for any folders.

    Returns:
        (images, problems): the paths, in the order of `sources`, and one line for each source
        that brings none.
    """
    images, problems = [], []
    for source in map(os.fspath, sources):
        # The name of a file may hold the characters of a pattern.
        matches = [source] if os.path.exists(source) else sorted(glob.glob(source, recursive=True))
        found = [path for match in matches for path in _files(match)]
        images += found
        if not found:
            problems.append(f"{source}: {'holds no images' if matches else 'no such file'}")
    return images, problems


def predict_images(model, images, top=5, labels=None, batch_size=16):
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
    if predictor.preprocessing is None:
        raise ValueError(
            f"model {predictor.metadata.name!r}: expected one PreprocessedImages layer, which "
            "tells how images are prepared, got none. T2TViT(..., preprocessing=...) puts one in."
        )
    for start in range(0, len(images), batch_size):
        results, pixels = [], []
        for path in images[start : start + batch_size]:
            results.append({"image": os.fspath(path)})
            try:
                pixels.append(predictor.preprocessing(path))
            except ValueError as error:
                results[-1]["error"] = str(error)
        rows = iter(predictor.predict(np.stack(pixels)) if pixels else ())
        for result in results:
            if "error" not in result:
                row = next(rows)
                best = np.argsort(-row, kind="stable")[:top]
                named = [(*predictor.classes[index], float(row[index])) for index in best]
                result["predictions"] = [
                    dict(zip(("class", "name", "probability"), line, strict=True)) for line in named
                ]
            yield result


def _files(path):
    if not os.path.isdir(path):
        return [path]
    files = (file for file in Path(path).rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(map(str, files))
