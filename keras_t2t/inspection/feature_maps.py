"""What each channel of each layer sees."""

from collections.abc import Sequence

import keras
import numpy as np

from keras_t2t.inspection.graph import evaluate, to_numpy
from keras_t2t.layers import EncoderBlock, SoftSplit, T2TBlock
from keras_t2t.models.graph import encoder_blocks, token_grid
from keras_t2t.models.pyramid import feature_pyramid as feature_pyramid  # of this room in 0.1.0


def feature_maps(
    model: keras.Model, images: np.ndarray, layers: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """The outputs of layers, as grids.

    Tokens are put back where they came from in the image; the class token, which comes from nowhere
    in it, is left out.

    Args:
        model: A model that `T2TViT` built, or one loaded; with `layers`, any functional
            `keras.Model`, such as `keras.applications.ResNet50`.
        images: Array `(batch, height, width, channels)`, as the model takes (normalised).
        layers: Names of layers. `None`, the default, means every soft split, T2T block (or
            convolution), the projection and every encoder block.

    Returns:
        Dict from the name of a layer to its float32 NumPy array `(batch, rows, columns, channels)`.

    Raises:
        ValueError: If the model has no such layer, a layer's output is no grid of tokens, or the
            images do not fit the model.

    Source: figure 2 of the paper.
    """
    names = _default_layers(model) if layers is None else list(layers)
    values = evaluate(model, {name: model.get_layer(name).output for name in names}, images)
    return {name: _as_grid(model, name, to_numpy(value)) for name, value in values.items()}


def _default_layers(model):
    encoder_blocks(model)  # or an error that says what is expected
    kinds = (SoftSplit, T2TBlock, keras.layers.Conv2D, EncoderBlock)
    return [
        layer.name
        for layer in model.layers
        if isinstance(layer, kinds) or layer.name == "projection"
    ]


def _as_grid(model, name, value):
    if value.ndim == 4:
        return value
    if value.ndim == 3:
        rows, columns = token_grid(model)
        if value.shape[1] == 1 + rows * columns:
            value = value[:, 1:]
        if value.shape[1] == rows * columns:
            return value.reshape(-1, rows, columns, value.shape[2])
    raise ValueError(
        f"layers: expected layers that give a grid or the encoder's tokens, but the output of "
        f"{name!r} has the shape {value.shape}"
    )
