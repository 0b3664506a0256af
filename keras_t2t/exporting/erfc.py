"""Teaches tf2onnx the operation that it lacks: Erfc, which TensorFlow makes the exact GELU of."""

import numpy as np
import onnx
from tf2onnx.handler import tf_op


@tf_op("Erfc")
class Erfc:
    """`erfc(x) = 1 - erf(x)`; ONNX has had Erf since opset 9."""

    @classmethod
    def version_9(cls, ctx, node, **kwargs):
        """Puts the two operations in the place of `node`."""
        name, dtype = node.name, ctx.get_dtype(node.output[0])
        erf = ctx.make_node("Erf", [node.input[0]])
        ctx.remove_node(name)
        one = np.ones((), onnx.helper.tensor_dtype_to_np_dtype(dtype))
        one = ctx.make_const(f"{name}/one", one)
        inputs = [one.output[0], erf.output[0]]
        ctx.make_node("Sub", inputs, name=name, outputs=node.output, dtypes=[dtype])
