"""Accuracy of a model, in whatever file, on labelled images."""

import time

import numpy as np


def evaluate(predictor, data, batch_size=64):
    """Top-1 and top-5 accuracy on the validation images of a data set.

    Args:
        predictor: A `keras_t2t.Predictor`, whose file says how images are prepared.
        data: As `keras_t2t.data.sources.open_source` takes it: `"tfds:NAME"`, a prepared TFDS
            folder, an image folder with `val/` or `validation/`, a folder of (Fashion-)MNIST's
            files, or a pair of arrays.
        batch_size: Int, images at a time, default 64. A file of a fixed batch runs at its own.

    Returns:
        Dict: `top1` and, of more than five classes, `top5`, shares in 0..1; `images`, their number;
        `images_per_second` of the model alone, without reading and preparing images.

    Raises:
        ValueError: If the file does not say how images are prepared, or the data have classes that
            it does not know; or as `open_source`.
    """
    # Here, because they bring TensorFlow.
    from keras_t2t.data.pipeline import evaluation_batches
    from keras_t2t.data.sources import open_source

    if predictor.preprocessing is None:
        raise ValueError(
            f"model {predictor.metadata.name!r}: expected one that says how images are prepared. "
            "T2TViT(..., preprocessing=...) puts that in."
        )
    source = open_source(data, "validation")
    classes = len(predictor.classes)
    if source.num_classes > classes:
        raise ValueError(
            f"data: expected at most the {classes} classes of model {predictor.metadata.name!r}, "
            f"got {source.num_classes} of {source.name}"
        )
    predictor.batch_size = batch_size
    right = np.zeros(min(5, classes))
    images, seconds = 0, 0.0
    for batch, labels in evaluation_batches(source, predictor.preprocessing, batch_size):
        batch, labels = batch.numpy(), labels.numpy()
        start = time.perf_counter()
        scores = predictor.scores(batch)
        seconds += time.perf_counter() - start
        best = np.argsort(-scores, axis=1, kind="stable")[:, : len(right)]
        right += np.sum(best == labels[:, None], axis=0)
        images += len(labels)
    found = {"top1": right[0] / images}
    if classes > 5:
        found["top5"] = right.sum() / images
    return found | {"images": images, "images_per_second": images / seconds}
