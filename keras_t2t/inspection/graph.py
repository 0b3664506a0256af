"""Values of the tensors of a model's graph on images."""

import keras
import numpy as np
from keras import ops


def evaluate(model: keras.Model, tensors: dict, images) -> dict:
    """Values of symbolic tensors of a model's graph, in inference mode.

    Args:
        model: Functional `keras.Model` with one input.
        tensors: Dict of symbolic tensors of its graph.
        images: Array or tensor `(batch, height, width, channels)`, as the model takes.

    Returns:
        Dict of tensors of the backend.

    Raises:
        ValueError: If the images do not have the shape that the model takes.
    """
    expected, shape = tuple(model.input_shape[1:]), tuple(np.shape(images))
    if len(shape) != 4 or any(
        size not in (None, given) for size, given in zip(expected, shape[1:], strict=True)
    ):
        raise ValueError(
            f"images: expected shape (batch, {', '.join(map(str, expected))}), as model "
            f"{model.name!r} takes, got {shape}"
        )
    values = keras.Model(model.input, tensors)(ops.convert_to_tensor(images), training=False)
    return {name: values[name] for name in tensors}  # the torch backend sorts them


def to_numpy(tensor) -> np.ndarray:
    """The tensor as a float32 NumPy array, whatever its precision."""
    return np.asarray(ops.convert_to_numpy(tensor), "float32")
