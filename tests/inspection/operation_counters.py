"""Multiply-accumulates of the operations that a backend runs, by counters that know no layer."""

import keras


def count_macs(model, images):
    """Multiply-accumulates of all matrix products and convolutions in a forward pass."""
    return {"torch": _torch, "tensorflow": _tensorflow, "jax": _jax}[keras.backend.backend()](
        model, images
    )


def _torch(model, images):
    """PyTorch's own counter, of what its dispatcher sees."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query, key, value, *_, **__):
        return sdpa_flop_count(query, key, value)

    # The counter knows the attention kernels of GPUs only.
    more = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=more) as counter:
        model(images, training=False)
    return counter.get_total_flops() // 2


def _tensorflow(model, images):
    """TensorFlow's profiler, of the traced graph."""
    import tensorflow as tf

    traced = tf.function(lambda x: model(x, training=False)).get_concrete_function(images)
    profiler = tf.compat.v1.profiler
    options = (
        profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
        .with_accounted_types(["MatMul", "BatchMatMulV2", "Conv2D"])
        .with_empty_output()
        .build()
    )
    return profiler.profile(traced.graph, options=options).total_float_ops // 2


def _jax(model, images):
    """The dot products and convolutions of the traced program."""
    import jax
    import numpy as np

    def macs(jaxpr):
        total = 0
        for equation in jaxpr.eqns:
            shapes = [variable.aval.shape for variable in (*equation.invars, *equation.outvars)]
            if equation.primitive.name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                total += np.prod(shapes[-1]) * np.prod([shapes[0][axis] for axis in contracted])
            elif equation.primitive.name == "conv_general_dilated":
                # All of a kernel's values but its output channels go into each output.
                axis = equation.params["dimension_numbers"].rhs_spec[0]
                total += np.prod(shapes[-1]) * np.prod(shapes[1]) // shapes[1][axis]
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                total += macs(inner) if hasattr(inner, "eqns") else 0
        return int(total)

    return macs(jax.make_jaxpr(lambda x: model(x, training=False))(images).jaxpr)
