"""Private names of dependencies: every one that the package uses, with the reason.

`tests/test_compat.py` fails when one of them is gone, or when a public way has come.
"""


def sublayers(layer):
    """All layers within a layer, theirs included.

    Keras lists a layer's own parts in no public attribute (`layers` is a model's alone).
    """
    return list(layer._flatten_layers(include_self=False))


def compiled_by_xla():
    """Whether the TensorFlow function that is being traced is for XLA (`jit_compile=True`).

    TensorFlow has no public way to ask.
    """
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
