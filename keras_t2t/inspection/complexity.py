"""Parameters and multiply-accumulates of a model, layer by layer."""

import dataclasses
import math

import keras

from keras_t2t.inspection.mac_rules import layer_macs
from keras_t2t.inspection.text import text_table
from keras_t2t.models.variants import create, list_variants


@dataclasses.dataclass(frozen=True)
class LayerComplexity:
    """The counts of one layer.

    Attributes:
        layer: str, its name.
        output_shape: tuple of its output without the batch.
        parameters: int, weights and biases.
        trainable_parameters: int, those that train.
        dense_macs: int, multiply-accumulates of linear layers and convolutions, for one image.
        macs: int, those and the attention's.
    """

    layer: str
    output_shape: tuple
    parameters: int
    trainable_parameters: int
    dense_macs: int
    macs: int


@dataclasses.dataclass(frozen=True)
class Complexity:
    """The counts of a model; the definition is at `keras_t2t.inspection.mac_rules`.

    Attributes:
        name: str, the model's name.
        input_shape: tuple, `(height, width, channels)`.
        layers: tuple of `LayerComplexity`, in the order of the graph.
    """

    name: str
    input_shape: tuple
    layers: tuple

    @property
    def parameters(self):
        """All parameters, the fixed positions and random features included, as published."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def trainable_parameters(self):
        """The parameters that train."""
        return sum(layer.trainable_parameters for layer in self.layers)

    @property
    def dense_macs(self):
        """Multiply-accumulates of linear layers and convolutions, for one image."""
        return sum(layer.dense_macs for layer in self.layers)

    @property
    def macs(self):
        """Multiply-accumulates, the attention's matrix products included, for one image."""
        return sum(layer.macs for layer in self.layers)

    def table(self):
        """The layers that have parameters or MACs, and the total, as text."""
        rows = [layer for layer in self.layers if layer.parameters or layer.macs]
        total = LayerComplexity(
            "total", (), self.parameters, self.trainable_parameters, self.dense_macs, self.macs
        )
        return text_table(
            [
                {
                    "layer": row.layer,
                    "output": " x ".join(map(str, row.output_shape)),
                    "parameters": row.parameters,
                    "trainable": row.trainable_parameters,
                    "dense MACs": row.dense_macs,
                    "MACs": row.macs,
                }
                for row in (*rows, total)
            ]
        )


def complexity(model_or_name, input_shape=None):
    """Counts a model's parameters and multiply-accumulates (MACs).

    `dense_macs` are those of linear layers and convolutions; `macs` are those and the attention's
    matrix products; nothing else counts. The whole definition opens the module
    `keras_t2t.inspection.mac_rules`.

    Args:
        model_or_name: A functional `keras.Model`, of this package or of `keras.applications`, or
            the published name of a variant, such as `"t2t_vit_14"`, whose weights are not made.
        input_shape: With a name only, `(height, width, channels)`. `None`, the default, means
            `(224, 224, 3)`.

    Returns:
        A `Complexity`.

    Raises:
        ValueError: If the name is unknown, `input_shape` comes with a model, a shape of the model
            is open, or a layer is of a kind that cannot be counted.
    """
    if isinstance(model_or_name, keras.Model):
        if input_shape is not None:
            raise ValueError("input_shape: expected None with a model, which has its own")
        model = model_or_name
    elif model_or_name in list_variants():
        # Shapes are all that is needed: initial weights of the largest would take seconds.
        with keras.StatelessScope(initialize_variables=False):
            model = create(model_or_name, input_shape=input_shape)
    else:
        raise ValueError(
            f"model_or_name: expected a keras.Model or one of {', '.join(list_variants())}, "
            f"got {model_or_name!r}"
        )
    layers = tuple(_count(model))
    return Complexity(model.name, tuple(model.input_shape[1:]), layers)


def _count(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _count(layer)
            continue
        if isinstance(layer, keras.layers.InputLayer):
            continue
        dense, attention = layer_macs(layer, getattr(layer.input, "shape", None))
        yield LayerComplexity(
            layer.name,
            tuple(layer.output.shape[1:]),
            _size(layer.weights),
            _size(layer.trainable_weights),
            dense,
            dense + attention,
        )


def _size(weights):
    return sum(math.prod(weight.shape) for weight in weights)
