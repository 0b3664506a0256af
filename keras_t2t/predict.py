"""Class predictions for image files."""

import glob
import os
from pathlib import Path

import keras
import numpy as np

from keras_t2t.data.class_names import class_names, decode_predictions
from keras_t2t.data.preprocessing import model_preprocessing

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
        model: A classifier that carries its preprocessing (see `model_preprocessing`). If its last
            layer gives logits, their softmax is reported.
        images: Paths of image files.
        top: Int, number of classes for each image, default 5.
        labels: As `class_names` takes them. `None` means ImageNet's for 1000 classes, else the
            indices.
        batch_size: Int, images at a time, default 16.

    Yields:
        For each image, in order, `{"image": path, "predictions": [...]}`, each prediction
        `{"class": id, "name": name, "probability": float}`, the most probable first; for a file
        that cannot be read, `{"image": path, "error": text}`.

    Raises:
        ValueError: If the model is no classifier, carries no preprocessing, or has another number
            of classes than there are labels.
    """
    preprocessing = model_preprocessing(model)
    shape = model.output_shape
    if not isinstance(shape, tuple) or len(shape) != 2:
        raise ValueError(
            f"model {model.name!r}: expected an output of shape (batch, classes), got {shape}"
        )
    if labels is None:
        labels = "imagenet" if shape[1] == 1000 else [str(index) for index in range(shape[1])]
    if len(class_names(labels)) != shape[1]:
        raise ValueError(
            f"labels: expected {shape[1]}, one for each output of model {model.name!r}, "
            f"got {len(class_names(labels))}"
        )
    logits = getattr(model.layers[-1], "activation", None) in (None, keras.activations.linear)

    for start in range(0, len(images), batch_size):
        results, pixels = [], []
        for path in images[start : start + batch_size]:
            results.append({"image": os.fspath(path)})
            try:
                pixels.append(preprocessing(path))
            except ValueError as error:
                results[-1]["error"] = str(error)
        decoded = iter(())
        if pixels:
            scores = model.predict_on_batch(np.stack(pixels)).astype("float32")
            if logits:
                scores = np.exp(scores - scores.max(axis=1, keepdims=True))
                scores /= scores.sum(axis=1, keepdims=True)
            decoded = iter(decode_predictions(scores, top, labels))
        for result in results:
            if "error" not in result:
                result["predictions"] = [
                    {"class": class_id, "name": name, "probability": probability}
                    for class_id, name, probability in next(decoded)
                ]
            yield result


def _files(path):
    if not os.path.isdir(path):
        return [path]
    files = (file for file in Path(path).rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(map(str, files))
