"""Parameters and multiply-accumulates of a model, layer by layer."""

import dataclasses
import math
from collections.abc import Iterator

import keras

from keras_t2t.inspection.matrix_products import Product, matrix_products
from keras_t2t.inspection.text import text_table
from keras_t2t.models.variants import list_variants
from keras_t2t.zoo import create

COUNTS = ("parameters", "trainable_parameters", "dense_macs", "macs")


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
    """The counts of a model; `keras_t2t.inspection.matrix_products` defines them.

    Attributes:
        name: str, the model's name.
        input_shape: tuple, `(height, width, channels)`.
        layers: tuple of `LayerComplexity`, in the order of the graph.
        parameters: int, fixed positions and random features included, as published.
        trainable_parameters: int, those that train.
        dense_macs: int, multiply-accumulates of linear layers and convolutions, for one image.
        macs: int, those and the attention's.
    """

    name: str
    input_shape: tuple
    layers: tuple[LayerComplexity, ...]
    parameters: int
    trainable_parameters: int
    dense_macs: int
    macs: int

    def table(self) -> str:
        """The layers that have parameters or MACs, and the total, as text."""
        rows = [layer for layer in self.layers if layer.parameters or layer.macs]
        rows.append(LayerComplexity("total", (), *(getattr(self, count) for count in COUNTS)))
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
                for row in rows
            ]
        )


def complexity(
    model_or_name: keras.Model | str, input_shape: tuple[int, int, int] | None = None
) -> Complexity:
    """Counts a model's parameters and multiply-accumulates (MACs).

    `dense_macs` are those of linear layers and convolutions; `macs` are those and the attention's
    matrix products; nothing else counts. The module `keras_t2t.inspection.matrix_products` opens
    with the whole definition.

    Args:
        model_or_name: A functional `keras.Model`, of this package or of `keras.applications`, or
            the published name of a variant, such as `"t2t_vit_14"`, whose weights are not made.
        input_shape: With a name only, `(height, width, channels)`. `None`, the default, means
            `(224, 224, 3)`.

    Returns:
        A `Complexity`.

    Raises:
        ValueError: If the name is unknown, `input_shape` comes with a model, a shape of the model
            is unknown, or a layer is of a kind that cannot be counted.
    """
    if isinstance(model_or_name, keras.Model):
        if input_shape is not None:
            raise ValueError("input_shape: expected None with a model, which has its own")
        model: keras.Model = model_or_name
    elif model_or_name in list_variants():
        # Shapes are all that is needed: initial weights of the largest would take seconds.
        with keras.StatelessScope(initialize_variables=False):
            model = create(model_or_name, input_shape=input_shape)
    else:
        raise ValueError(
            f"model_or_name: expected a keras.Model or one of {', '.join(list_variants())}, "
            f"got {model_or_name!r}"
        )
    layers = tuple(_counts(*found) for found in layer_products(model))
    totals = {count: sum(getattr(layer, count) for layer in layers) for count in COUNTS}
    return Complexity(model.name, tuple(model.input_shape[1:]), layers, **totals)


def layer_products(model: keras.Model) -> Iterator[tuple[keras.layers.Layer, list[Product]]]:
    """The layers of a model and of the models within it, each with its matrix products."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from layer_products(layer)
        elif not isinstance(layer, keras.layers.InputLayer):
            yield layer, matrix_products(layer, getattr(layer.input, "shape", None))


def _counts(layer, products):
    return LayerComplexity(
        layer.name,
        tuple(layer.output.shape[1:]),
        sum(math.prod(weight.shape) for weight in layer.weights),
        sum(math.prod(weight.shape) for weight in layer.trainable_weights),
        sum(product.macs for product in products if product.kind in ("linear", "convolution")),
        sum(product.macs for product in products),
    )
