"""Gradients of a scalar loss on whichever backend runs."""

import keras
import numpy as np


def gradients(model, loss, *arrays, training=False):
    """`loss(model(x, training), *rest)` and its gradients.

    Args:
        model: A built Keras model or layer.
        loss: Function of the output and of the arrays after the first.
        *arrays: The input first.

    Returns:
        The loss, the gradients by the trainable variables, and the one by the input, as NumPy.
    """
    compute = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    return compute(model, loss, [keras.ops.convert_to_tensor(a) for a in arrays], training)


def _tensorflow(model, loss, arrays, training):
    import tensorflow as tf

    x = arrays[0]
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(model(x, training=training), *arrays[1:])
    *found, by_input = tape.gradient(value, [*variables, x])
    return float(value), [np.asarray(g) for g in found], np.asarray(by_input)


def _jax(model, loss, arrays, training):
    import jax

    fixed = [variable.value for variable in model.non_trainable_variables]

    @jax.jit
    def evaluate(variables, x):
        def forward(variables, x):
            output, _ = model.stateless_call(variables, fixed, x, training=training)
            return loss(output, *arrays[1:])

        return jax.value_and_grad(forward, (0, 1))(variables, x)

    value, (found, by_input) = evaluate(
        [variable.value for variable in model.trainable_variables], arrays[0]
    )
    return float(value), [np.asarray(g) for g in found], np.asarray(by_input)


def _torch(model, loss, arrays, training):
    x = arrays[0].clone().requires_grad_()
    model.zero_grad()
    value = loss(model(x, training=training), *arrays[1:])
    value.backward()
    found = [variable.value.grad for variable in model.trainable_variables]
    to_numpy = keras.ops.convert_to_numpy
    return value.item(), [to_numpy(gradient) for gradient in found], to_numpy(x.grad)
