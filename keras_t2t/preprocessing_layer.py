"""The layer by which a model carries its preprocessing into every file."""

import dataclasses

import keras

from keras_t2t.compat import sublayers
from keras_t2t.preprocessing import PREPROCESSING, Preprocessing


@keras.saving.register_keras_serializable(package="keras_t2t")
class PreprocessedImages(keras.layers.Identity):
    """Passes images on unchanged, and tells how they must have been prepared.

    It computes nothing. Standing behind a model's input, its config carries the preprocessing into
    every file of the model and every model cut out of it.

    Args:
        preprocessing: A `Preprocessing`, or its arguments as a dict.

    Raises:
        ValueError: If the preprocessing does not give images of the shape that come in.
    """

    def __init__(self, preprocessing, **kwargs):
        # Casting is left to the layers that compute.
        super().__init__(autocast=False, **kwargs)
        if isinstance(preprocessing, dict):
            preprocessing = Preprocessing(**preprocessing)
        self.preprocessing = preprocessing

    def compute_output_spec(self, inputs):
        own = self.preprocessing
        shape, given = tuple(inputs.shape[1:]), (own.height, own.width, len(own.mean))
        if shape != given:
            raise ValueError(
                f"preprocessing: expected one that gives images of shape {shape}, got {given}"
            )
        return super().compute_output_spec(inputs)

    def get_config(self):
        return {**super().get_config(), "preprocessing": dataclasses.asdict(self.preprocessing)}


def model_preprocessing(
    model_or_weights: keras.Model | str, input_shape: tuple[int, int, int] | None = None
) -> Preprocessing:
    """The preprocessing that belongs to a model or to published weights.

    Args:
        model_or_weights: A `keras.Model` of this package or built around one, which carries its
            preprocessing; or the name of published weights, such as `"imagenet"`, `"cifar10"`.
        input_shape: With a name only, `(height, width, channels)` of the model that is to hold the
            weights, see `Preprocessing.fitted`. `None` means as published.

    Returns:
        A `Preprocessing`.

    Raises:
        ValueError: If the model carries none, or several that differ; if the name is unknown.
    """
    if isinstance(model_or_weights, keras.Model):
        if input_shape is not None:
            raise ValueError("input_shape: expected None with a model, which has its own")
        return _carried(model_or_weights)
    if model_or_weights not in PREPROCESSING:
        raise ValueError(
            f"model_or_weights: expected a keras.Model or one of {', '.join(PREPROCESSING)}, "
            f"got {model_or_weights!r}"
        )
    preprocessing = PREPROCESSING[model_or_weights]
    return preprocessing if input_shape is None else preprocessing.fitted(input_shape)


def carried_preprocessing(model):
    """The `Preprocessing` that a model carries, or `None` where `model_preprocessing` complains."""
    try:
        return _carried(model)
    except ValueError:
        return None


def _carried(model):
    layers = [layer for layer in sublayers(model) if isinstance(layer, PreprocessedImages)]
    found = {layer.preprocessing for layer in layers}
    if len(found) != 1:
        raise ValueError(
            f"model {model.name!r}: expected one PreprocessedImages layer, which tells how images "
            f"are prepared, got {'several that differ' if found else 'none'}. "
            "T2TViT(..., preprocessing=...) puts one in."
        )
    return found.pop()
