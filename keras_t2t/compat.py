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


# Keras calls these of an optimizer, and `training.optimizer` overrides them: decay and average take
# their own rate for each variable, for which Keras has no public hook.
OPTIMIZER_HOOKS = ("_apply_weight_decay", "_update_model_variables_moving_average")


def variable_index(optimizer, variable):
    """The place of a variable among those that a Keras optimizer was built for.

    Keras' own optimizers call it in `update_step`, and tell writers of others to do the same; there
    is no public name for it.
    """
    return optimizer._get_variable_index(variable)


def uses_weight_decay(optimizer, variable):
    """Whether `exclude_from_weight_decay`, which is public, left a variable in.

    Keras has no public way to ask.
    """
    return optimizer._use_weight_decay(variable)


def moving_averages(optimizer):
    """Pairs (variable, its moving average) of a built Keras optimizer with `use_ema`.

    Among the public `variables` the averages are told from the rest by their names only.
    """
    averages = optimizer._model_variables_moving_average
    pairs = zip(optimizer._trainable_variables, averages, strict=True)
    return [(variable, average) for variable, average in pairs if average is not None]


def set_initializer(variable, initializer):
    """Replaces the initializer of a variable that was made within a `keras.StatelessScope`.

    Keras has no public way to build a model without drawing its initial values.
    """
    variable._initializer = initializer


def litert_operations(interpreter):
    """The operations that a LiteRT interpreter runs: a list of dicts with `op_name`.

    LiteRT tells in no public way which of them XNNPACK took over: they are one `DELEGATE` then.
    """
    return interpreter._get_ops_details()
