"""LiteRT (`.tflite`) models: built-in operations only, in four precisions."""

import contextlib
import io
import re
import tempfile

import numpy as np
import tensorflow as tf

from keras_t2t.exporting.litert_metadata import with_metadata
from keras_t2t.exporting.saved_model import write_saved_model
from keras_t2t.rewrite.formulas import UNBOUNDED

SIGNATURE = "serving_default"


def write_litert(path, model, batch_size, metadata, calibration=None, integer_io=False):
    """Writes a LiteRT model.

    Args:
        path: Path of the file.
        model: A model as `serving_model` makes.
        batch_size: Int, or `None` for any, which splits the graph between XNNPACK and others.
        metadata: A `Metadata`, which is packed into the file. Its precision is the file's:
            `"float32"`; `"float16"`, weights stored so; `"dynamic_int8"`, weights int8, and the
            inputs of linear layers quantised as they come; `"int8"`, those inputs quantised with
            ranges known from `calibration`, but for the last linear layer, whose outputs would be
            clipped, and those of the Performer whose values have no range to speak of.
        calibration: With `"int8"`, the batches of images to see ranges on.
        integer_io: With `"int8"`, whether input and output are int8 too.

    Raises:
        ImportError: If ai-edge-litert or litert-quantizer is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(folder, model, batch_size, metadata)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if metadata.precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        with contextlib.redirect_stderr(io.StringIO()):
            content = converter.convert()
    if metadata.precision in ("dynamic_int8", "int8"):
        content = _quantized(content, metadata.precision, calibration, integer_io)
    path.write_bytes(with_metadata(content, metadata))


def xnnpack_partitions(path):
    """How many pieces of a LiteRT model XNNPACK computes: one if it takes all of it."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    return sum(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())


def operations(content):
    """The operations of a LiteRT model, in order: (name, name of the first output)."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    model = schema.Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        code = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        yield names[code], graph.Tensors(operator.Outputs(0)).Name().decode()


def _quantized(content, precision, calibration, integer_io):
    from litert_quantizer import quantizer
    from litert_quantizer.qtyping import TFLOperationName as Operation

    tool = quantizer.Quantizer(content)
    tool.add_dynamic_config(".*", Operation.ALL_SUPPORTED, num_bits=8)
    ranges = None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if precision == "int8":
            linear = [name for kind, name in operations(content) if kind == "FULLY_CONNECTED"]
            kept = [name for name in linear if UNBOUNDED in name] + linear[-1:]
            static = {"activation_num_bits": 8, "weight_num_bits": 8}
            for operation in (Operation.FULLY_CONNECTED, Operation.CONV_2D):
                tool.add_static_config(".*", operation, **static)
            for name in kept:
                tool.add_dynamic_config(re.escape(name), Operation.FULLY_CONNECTED, num_bits=8)
            if integer_io:
                for operation in (Operation.INPUT, Operation.OUTPUT):
                    tool.add_static_config(".*", operation, **static)
            batches = [{"images": np.asarray(batch)} for batch in calibration]
            ranges = tool.calibrate({SIGNATURE: batches})
            if integer_io:
                # The range of what comes out is a mean over the batches, which would clip the best.
                *_, (_, output) = operations(content)
                low, high = ranges[output]["min"], ranges[output]["max"]
                ranges[output] = {"min": low - (high - low) / 2, "max": high + (high - low) / 2}
        return bytes(tool.quantize(ranges, enable_progress_bar=False).quantized_model)
