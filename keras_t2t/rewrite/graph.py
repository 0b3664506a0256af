"""A model's graph: what reads what, and the same graph with other layers in it."""

import keras

from keras_t2t.compat import sublayers
from keras_t2t.layers import EncoderBlock, TokenPooling


def functional(model):
    """A functional or sequential model as a plain functional one, which shares its layers.

    Raises:
        ValueError: If the model is subclassed.
    """
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not hasattr(model, "operations"):
        raise ValueError(
            f"model {model.name!r}: expected a functional or sequential keras.Model, "
            f"got a {type(model).__name__}"
        )
    return keras.Model(model.input, model.output, name=model.name)


def rebuilt(model, replace):
    """A functional model in which `replace(layer)` stands in the place of each layer.

    Args:
        model: A functional or sequential `keras.Model`. Models within it are rebuilt too.
        replace: Function from a layer to a layer.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If the model is subclassed, so that its layers cannot be told apart.
    """

    def clone(layer):
        if isinstance(layer, keras.Model):
            return rebuilt(layer, replace)
        if isinstance(layer, keras.layers.Layer):
            return replace(layer)
        return type(layer).from_config(layer.get_config())  # a sum of two tensors, for one

    return keras.models.clone_model(functional(model), clone_function=clone)


class Graph:
    """Which layers of a functional model read which.

    Attributes:
        layers: List of the model's layers.
    """

    def __init__(self, model):
        model = functional(model)
        self.layers, self._writers, self._readers = model.layers, {}, {}
        if not all(map(stands_once, model.operations)):
            self.layers = []  # what they read cannot be told
            return
        for operation in model.operations:
            for tensor in keras.tree.flatten(operation.output):
                self._writers[id(tensor)] = operation
            for tensor in keras.tree.flatten(operation.input):
                self._readers.setdefault(id(tensor), []).append(operation)
        for tensor in model.outputs:
            self._readers.setdefault(id(tensor), []).append(None)

    def before(self, layer):
        """The layer whose output a layer of one input reads."""
        return self._writers.get(id(layer.input))

    def after(self, layer):
        """The only layer that reads another's output, or `None`."""
        found = self._readers.get(id(layer.output), [])
        return found[0] if len(found) == 1 else None

    def class_token_only(self, block):
        """Whether an encoder block is the last, and only the class token of it is read."""
        norm = self.after(block) if isinstance(block, EncoderBlock) else None
        pooling = self.after(norm) if type(norm) is keras.layers.LayerNormalization else None
        return isinstance(pooling, TokenPooling) and pooling.mode == "token"


def graphs(model):
    """The graphs of a model and of the models within it."""
    yield Graph(model)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from graphs(layer)


def stands_once(operation):
    """Whether an operation stands at one place of its graph, with one input and one output."""
    try:
        return operation.input is not None and operation.output is not None
    except (AttributeError, ValueError):  # Keras, of a layer that is called twice
        return False


def is_quantized(layer):
    """Whether a layer, or one within it, computes in integers."""
    return any(part.quantization_mode for part in (layer, *sublayers(layer)))


def last_layer(model):
    """The last layer of a model, that of the last model within it if that is one."""
    layer = model.layers[-1]
    return last_layer(layer) if isinstance(layer, keras.Model) else layer


def output_of(model: keras.Model) -> str:
    """What comes out of a model: `"logits"`, `"probabilities"`, or `"outputs"` of another kind."""
    head = last_layer(model)
    if isinstance(head, keras.layers.Softmax):
        return "probabilities"
    kinds = {keras.activations.linear: "logits", keras.activations.softmax: "probabilities"}
    return kinds.get(getattr(head, "activation", None), "outputs")
