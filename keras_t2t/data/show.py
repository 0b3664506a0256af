"""A picture of a training batch, to look at before a training is started."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from keras_t2t.data.augment import Augmentation
from keras_t2t.data.decoding import naming_bad_images
from keras_t2t.data.pipeline import training_batches
from keras_t2t.data.source import Source
from keras_t2t.extras import require
from keras_t2t.preprocessing import Preprocessing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = 2


def show_batch(
    source: Source,
    augmentation: Augmentation,
    preprocessing: Preprocessing,
    images: int = 32,
    seed: int = 0,
) -> "Figure":
    """Draws the first batch of a training with its labels.

    Args:
        source, augmentation, preprocessing, seed: As `training_batches` takes them.
        images: Int, size of the batch, default 32.

    Returns:
        A Matplotlib figure. Below each image are its one or two classes, with their shares.

    Raises:
        ValueError: As `training_batches`; a `BadImageError` if an image cannot be decoded.
        ImportError: If matplotlib is not installed.
    """
    if images > len(source):
        raise ValueError(
            f"images: expected at most the {len(source)} images of {source.name}, got {images}"
        )
    batches = training_batches(source, augmentation, images, seed, preprocessing=preprocessing)
    with naming_bad_images():
        pixels, labels = (part.numpy() for part in next(iter(batches)))
    return draw_batch(pixels, labels, preprocessing, source.class_names)


def draw_batch(images, labels, preprocessing, class_names=None, columns=8):
    """A picture of a batch with its labels.

    Args:
        images: float32 (batch, height, width, 1 or 3), normalised.
        labels: float32 (batch, classes), which may be mixed.
        preprocessing: The `Preprocessing` that they were normalised with.
        class_names: The classes' names. `None` means their numbers.
        columns: Int, images in a row, default 8.

    Returns:
        A Matplotlib figure.
    """
    require("plot", "matplotlib")
    from matplotlib.figure import Figure

    pixels = images * np.float32(preprocessing.std) + np.float32(preprocessing.mean)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.6 * columns, 2.1 * rows), layout="constrained")
    for axes, image, label in zip(
        figure.subplots(rows, columns, squeeze=False).flat, pixels, labels, strict=False
    ):
        axes.imshow(np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1)
        axes.set_title(caption(label, class_names), fontsize=7, y=-0.06, va="top")
    for axes in figure.axes:
        axes.set_axis_off()
    return figure


def caption(label, class_names):
    """The one or two classes above what smoothing gives to all, with their shares."""
    # More than two classes have no more than what smoothing gives them.
    floor = np.sort(label)[: max(len(label) - LABELS, 1)].max() if len(label) > LABELS else 0
    chosen = [place for place in np.argsort(-label, kind="stable")[:LABELS] if label[place] > floor]
    lines = []
    for place in chosen:
        name = str(place) if class_names is None else class_names[place]
        lines += textwrap.wrap(f"{label[place]:.2f} {name}", 24)[:2]
    return "\n".join(lines)
