"""The largest tensor that a layer's output and its gradient by the input need on the way."""

import keras
import numpy as np


def largest_tensor(layer, x):
    """Values of the largest tensor that exists while `sum(layer(x) ** 2)` is differentiated."""
    return {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()](
        layer, x
    )


def _tensorflow(layer, x):
    import tensorflow as tf

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, x)

    definition = gradient.get_concrete_function(x).graph.as_graph_def(add_shapes=True)
    nodes = [*definition.node, *(node for f in definition.library.function for node in f.node_def)]
    # A list of tensors is one of the shapes of its elements, and held at once: inputs and outputs.
    shapes = [
        [max(axis.size, 1) for axis in shape.dim]
        for node in nodes
        if "_output_shapes" in node.attr
        for shape in node.attr["_output_shapes"].list.shape
    ]
    return max(int(np.prod(shape)) for shape in shapes)


def _jax(layer, x):
    import jax

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (int(np.prod(v.aval.shape)) for v in equation.outvars)
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    yield from sizes(inner)

    gradient = jax.grad(lambda x: (layer(x) ** 2).sum())
    return max(sizes(jax.make_jaxpr(gradient)(x).jaxpr))


def _torch(layer, x):
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            several = result if isinstance(result, (tuple, list)) else [result]
            sizes.extend(t.numel() for t in several if isinstance(t, torch.Tensor))
            return result

    x = x.clone().requires_grad_()
    with Record():
        (layer(x) ** 2).sum().backward()
    return max(sizes)
