"""The head of a classifier, by which a model carries the names of its classes into every file."""

from collections.abc import Sequence

import keras

from keras_t2t.class_names import carried_names
from keras_t2t.compat import sublayers


@keras.saving.register_keras_serializable(package="keras_t2t")
class Dense(keras.layers.Dense):
    """Keras' Dense layer, which as a head knows the names of its classes.

    It is called as Keras' own because Keras finds weights in files by the names of classes: weights
    of models with and without names of classes are the same.

    Args:
        units: Int, number of classes.
        *args: As of `keras.layers.Dense`.
        class_names: Names of the classes in the order of the outputs, as
            `keras_t2t.decode_predictions` takes them. `None`, the default, tells nothing.
        **kwargs: As of `keras.layers.Dense`.

    Raises:
        ValueError: If there is another number of names than of units, or one is no string.
    """

    def __init__(self, units: int, *args, class_names: str | Sequence[str] | None = None, **kwargs):
        super().__init__(units, *args, **kwargs)
        self.class_names = class_names

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Tuple of a string for each class, of ImageNet's their ids; or `None`."""
        return self._class_names

    @class_names.setter
    def class_names(self, labels: str | Sequence[str] | None) -> None:
        names = None if labels is None else carried_names(labels)
        if names is not None and len(names) != self.units:
            raise ValueError(
                f"The names of classes must be {self.units}, one for each output of the layer "
                f"{self.name!r}. Received: {len(names)}"
            )
        self._class_names = names

    def quantize(self, mode=None, type_check=True, config=None):
        # Keras leaves subclasses out, which may compute something else.
        super().quantize(mode, type_check=False, config=config)

    def get_config(self):
        return {**super().get_config(), "class_names": self.class_names}


def model_class_names(model: keras.Model) -> tuple[str, ...] | None:
    """The names of a model's classes.

    Args:
        model: A `keras.Model` of this package or built around one.

    Returns:
        Tuple of strings in the order of the outputs, as `keras_t2t.decode_predictions` takes them,
        ImageNet's classes by their ids; or `None` if the model does not carry them.
    """
    found = {layer.class_names for layer in sublayers(model) if isinstance(layer, Dense)}
    names = found.pop() if len(found) == 1 else None
    # A head of another number of classes may stand behind the one whose names they are.
    outputs = [output.shape[-1] for output in getattr(model, "outputs", None) or ()]
    return names if names and outputs == [len(names)] else None
