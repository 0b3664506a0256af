"""Images as models take them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_t2t.preprocessing import Preprocessing

if TYPE_CHECKING:  # `keras-t2t export` checks its options without it, which halves the time.
    import numpy as np


def check_images(images, name: str = "images") -> None:
    """Raises a ValueError unless these are several images, as `Predictor.predict` takes them."""
    import numpy as np

    if isinstance(images, np.ndarray):
        if images.dtype.kind in "biuf" and (images.ndim != 4 or 0 in images.shape[1:]):
            raise ValueError(
                f"{name}: expected shape (n, rows, columns, channels), got {images.shape}"
            )
    elif not isinstance(images, (list, tuple)):
        raise ValueError(
            f"{name}: expected a list of paths, Pillow images or uint8 arrays, or an array, "
            f"got {images!r:.100}"
        )


def prepared(images, preprocessing: Preprocessing | None, shape: Sequence[int]) -> "np.ndarray":
    """Images as a model takes them.

    Args:
        images: As `Predictor.predict` takes them.
        preprocessing: A `Preprocessing`, or `None` if it is not known.
        shape: (height, width, channels) of the model's input.

    Returns:
        float32 array (n, height, width, channels).

    Raises:
        ValueError: As `Predictor.predict`.
    """
    import numpy as np

    if isinstance(images, np.ndarray) and images.dtype.kind == "f":
        if images.shape[1:] != tuple(shape):
            expected = ", ".join(map(str, shape))
            raise ValueError(f"images: expected shape (n, {expected}), got {images.shape}")
        return images.astype("float32")
    if preprocessing is None:
        raise ValueError(
            "images: the model does not say how they are prepared, for which it needs a "
            "PreprocessedImages layer. Pass a float array (n, height, width, channels) that is "
            "prepared, or build the model with T2TViT(..., preprocessing=...)"
        )
    return np.stack([preprocessing(image) for image in images])
