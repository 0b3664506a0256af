"""The same model with some of its layers replaced."""

import keras


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


def for_inference(model):
    """A copy of a model as exported files are to compute it: float32, no softmax at its end.

    Files for the edge choose their own precision, and a softmax can be put behind logits but not
    taken away. Layers that are quantised stay so.

    Args:
        model: A functional or sequential `keras.Model`.

    Returns:
        (model, output): the copy, and what comes out of it: `"logits"` where the last layer was
        linear or a softmax, else `"outputs"`.

    Raises:
        ValueError: As `rebuilt`.
    """
    model = functional(model)
    head = last_layer(model)
    kind = output_of(model)
    softmax_alone = kind == "probabilities" and isinstance(
        head, (keras.layers.Softmax, keras.layers.Activation)
    )
    copies = []

    def copy(layer):
        if layer is head and softmax_alone:
            return PassedOn(name=head.name)
        config = layer.get_config()
        if not is_quantized(layer):
            config["dtype"] = "float32"
        if layer is head and kind == "probabilities":
            config["activation"] = None
        copies.append((layer, type(layer).from_config(config)))
        return copies[-1][1]

    network = rebuilt(model, copy)
    for layer, its_copy in copies:
        its_copy.set_weights(layer.get_weights())
    return network, "outputs" if kind == "outputs" else "logits"


def output_of(model):
    """What comes out of a model: `"logits"`, `"probabilities"`, or `"outputs"` of another kind."""
    head = last_layer(model)
    if isinstance(head, keras.layers.Softmax):
        return "probabilities"
    kinds = {keras.activations.linear: "logits", keras.activations.softmax: "probabilities"}
    return kinds.get(getattr(head, "activation", None), "outputs")


class PassedOn(keras.layers.Layer):
    """Takes what a Softmax layer takes, and leaves it as it is."""

    def call(self, inputs, mask=None):
        return inputs


def is_quantized(layer):
    """Whether a layer, or one within it, computes in integers."""
    return any(part.quantization_mode for part in layer._flatten_layers())


def last_layer(model):
    """The last layer of a model, that of the last model within it if that is one."""
    layer = model.layers[-1]
    return last_layer(layer) if isinstance(layer, keras.Model) else layer
