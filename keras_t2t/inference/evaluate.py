"""Accuracy of a model, in whatever file, on labelled images."""

import os
import time

import numpy as np

from keras_t2t.inference.predictor import Predictor
from keras_t2t.progress import progress
from keras_t2t.validation import positive_int


def evaluate(
    predictor: Predictor,
    data: str | os.PathLike | tuple,
    batch_size: int = 64,
    bad_images: str = "error",
) -> dict[str, float]:
    """Top-1 and top-5 accuracy on the validation images of a data set.

    Args:
        predictor: A `keras_t2t.Predictor`, whose file says how images are prepared.
        data: As `keras_t2t.data.sources.open_source` takes it: `"tfds:NAME"`, a prepared TFDS
            folder, an image folder with `val/` or `validation/`, a folder of (Fashion-)MNIST's
            files, or a pair of arrays.
        batch_size: Int, images at a time, default 64. A file of a fixed batch runs at its own.
        bad_images: What to do about an image that cannot be read or decoded: `"error"` raises one
            that names it, `"skip"` leaves it out, counts it and names it in the log.

    Returns:
        Dict: `top1` and, of more than five classes, `top5`, shares in 0..1; `images`, their number;
        `skipped`, the number of those left out; `images_per_second` of the model alone, without
        reading and preparing images.

    Raises:
        ValueError: If the file does not say how images are prepared, the data have classes that
            it does not know, or an image, or every one, cannot be decoded; or as `open_source`.
    """
    # Here, because they bring TensorFlow.
    from keras_t2t.data.decoding import naming_bad_images
    from keras_t2t.data.pipeline import evaluation_batches
    from keras_t2t.data.sources import open_source

    preprocessing = predictor.known_preprocessing()
    source = open_source(data, "validation")
    classes = len(predictor.classes)
    outputs = outputs_of(source, predictor)
    predictor.batch_size = positive_int(batch_size, "batch_size")
    right = np.zeros(min(5, classes))
    images, seconds = 0, 0.0
    batches = evaluation_batches(source, preprocessing, batch_size, bad_images=bad_images)
    with naming_bad_images():
        for batch, labels in progress(batches, -(-len(source) // batch_size), "batches"):
            batch, labels = batch.numpy(), outputs[labels.numpy()]
            start = time.perf_counter()
            scores = predictor.scores(batch)
            seconds += time.perf_counter() - start
            best = np.argsort(-scores, axis=1, kind="stable")[:, : len(right)]
            right += np.sum(best == labels[:, None], axis=0)
            images += len(labels)
    if not images:
        raise ValueError(f"data: expected images that can be decoded, got none in {source.name}")
    found = {"top1": right[0] / images}
    if classes > 5:
        found["top5"] = right.sum() / images
    found |= {"images": images, "skipped": len(source.skipped)}
    return found | {"images_per_second": images / seconds}


def outputs_of(source, predictor: Predictor) -> np.ndarray:
    """The output of the model that stands for each class of the data.

    Where both name their classes, those of one name (or of one ImageNet id) belong together. As
    many classes of which some have no name that the model knows belong together in their order, if
    that is the order of the others.

    Args:
        source: A source of `keras_t2t.data`.
        predictor: The `Predictor` of the model.

    Returns:
        Int array (classes of the data,).

    Raises:
        ValueError: If the model does not know some of the classes.
    """
    model, count, names = predictor.metadata.name, len(predictor.classes), source.class_names
    same = np.arange(source.num_classes)
    if names is None:  # labels are outputs, and the last ones may be missing
        if len(same) > count:
            raise ValueError(
                f"data: expected at most the {count} classes of model {model!r}, got {len(same)} "
                f"of {source.name}"
            )
        return same
    places = {}
    for column in (1, 0):  # an id goes before a name
        for place, entry in enumerate(predictor.classes):
            if entry[column] != str(place):  # which stands for the lack of one
                places[entry[column]] = place
    unknown = [name for name in names if name not in places]
    if not unknown:
        return np.array([places[name] for name in names])
    if len(names) == count and all(places.get(name, at) == at for at, name in enumerate(names)):
        return same
    raise ValueError(
        f"data: expected the {count} classes of model {model!r} or some of them, got {len(names)} "
        f"of {source.name}, which it does not know by name: {', '.join(unknown[:5])}"
    )
