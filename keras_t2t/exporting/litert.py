"""LiteRT (`.tflite`) models: built-in operations only, in four precisions."""

import contextlib
import io
import re
import tempfile
from typing import Any

import numpy as np
import tensorflow as tf

from keras_t2t.compat import litert_operations
from keras_t2t.exporting.saved_model import save, signature
from keras_t2t.exporting.serving import images_spec
from keras_t2t.inference.images import prepared
from keras_t2t.rewrite.formulas import UNBOUNDED

SIGNATURE = "serving_default"


def write(path, network, metadata, options):
    """Writes a LiteRT model, with its metadata packed in.

    For any batch its graph is split between XNNPACK and others. Precisions: `"float32"`;
    `"float16"`, weights stored so; `"dynamic_int8"`, weights int8, and the inputs of linear layers
    quantised as they come; `"int8"`, those inputs quantised with ranges known from
    `options.calibration`, but for the last linear layer, whose outputs would be clipped, and those
    of the Performer whose values have no range to speak of.

    Args:
        path: Path of the file.
        network: A model as `serving_model` makes.
        metadata: Its `Metadata`.
        options: The `ExportOptions`.

    Returns:
        Dict of what is to be reported: the number of XNNPACK's partitions.
    """
    from keras_t2t.exporting.litert_metadata import with_metadata

    samples = None
    if options.precision == "int8":
        images = prepared(options.calibration, metadata.preprocessing, network.input_shape[1:])
        images, size = metadata.taken(images), options.batch or 1
        places = (np.arange(start, start + size) for start in range(0, len(images), size))
        samples = [{"images": images[place % len(images)]} for place in places]
    with tempfile.TemporaryDirectory() as folder:
        spec = images_spec(network, options.batch)
        save(folder, network, {SIGNATURE: signature(network, spec)}, {})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if options.precision == "float16":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.target_spec.supported_types = [tf.float16]
        with contextlib.redirect_stderr(io.StringIO()):
            content = converter.convert()
    if options.precision in ("dynamic_int8", "int8"):
        content = _quantized(content, samples, options.integer_io)
    path.write_bytes(with_metadata(content, metadata))
    return {"xnnpack_partitions": xnnpack_partitions(path)}


def xnnpack_partitions(path) -> int:
    """How many pieces of a LiteRT model XNNPACK computes: one if it takes all of it."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    return sum(operation["op_name"] == "DELEGATE" for operation in litert_operations(interpreter))


def operations(content):
    """The operations of a LiteRT model, in order: (name, name of the first output)."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    model: Any = schema.Model.GetRootAs(content)
    graph = model.Subgraphs(0)
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        code = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        yield names[code], graph.Tensors(operator.Outputs(0)).Name().decode()


def _quantized(content, samples, integer_io):
    """A model with int8 weights; with ranges of fixed size if there are samples to see them on."""
    from litert_quantizer import quantizer
    from litert_quantizer.qtyping import TFLOperationName as Operation

    tool = quantizer.Quantizer(content)
    tool.add_dynamic_config(".*", Operation.ALL_SUPPORTED, num_bits=8)
    ranges = None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        if samples:
            static = [Operation.FULLY_CONNECTED, Operation.CONV_2D]
            if integer_io:
                static += [Operation.INPUT, Operation.OUTPUT]
            for operation in static:
                tool.add_static_config(".*", operation, activation_num_bits=8, weight_num_bits=8)
            linear = [name for kind, name in operations(content) if kind == "FULLY_CONNECTED"]
            for name in [name for name in linear if UNBOUNDED in name] + linear[-1:]:
                tool.add_dynamic_config(re.escape(name), Operation.FULLY_CONNECTED, num_bits=8)
            ranges = tool.calibrate({SIGNATURE: samples})
            if integer_io:
                # The range of what comes out is a mean over the batches, which would clip the best.
                *_, (_, output) = operations(content)
                low, high = ranges[output]["min"], ranges[output]["max"]
                ranges[output] = {"min": low - (high - low) / 2, "max": high + (high - low) / 2}
        return bytes(tool.quantize(ranges, enable_progress_bar=False).quantized_model or b"")
