"""ONNX models."""

import contextlib
import io
import logging
import warnings

import keras

from keras_t2t.inference.metadata import NAME

OPSET = 18


def write_onnx(path, model, batch_size, metadata):
    """Writes an ONNX model of opset 18.

    Args:
        path: Path of the file.
        model: A model as `serving_model` makes.
        batch_size: Int, or `None` for any.
        metadata: A `Metadata`, which the file carries as a property.

    Raises:
        ImportError: If ONNX or tf2onnx is not installed.
    """
    import onnx

    _teach_erfc()
    (images,) = model.inputs
    signature = keras.InputSpec(
        shape=(batch_size, *images.shape[1:]), dtype=images.dtype, name=images.name
    )
    with _quietly():
        model.export(
            str(path),
            format="onnx",
            verbose=False,
            input_signature=[signature],
            opset_version=OPSET,
        )
        if metadata.precision == "dynamic_int8":
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(path, path, per_channel=True, weight_type=QuantType.QInt8)
        if metadata.precision == "float16":
            from onnxruntime.transformers.float16 import convert_float_to_float16

            onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {NAME: metadata.to_json()})
    onnx.save(proto, path)


def _teach_erfc():
    """Registers TensorFlow's Erfc, which GELU is made of, with tf2onnx, which lacks it."""
    from tf2onnx.handler import tf_op

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx, node, **kwargs):
            import numpy as np

            erf = ctx.make_node("Erf", [node.input[0]])
            dtype = ctx.get_dtype(node.output[0])
            ctx.remove_node(node.name)
            one = ctx.make_const(f"{node.name}/one", np.ones((), np.float32))
            ctx.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                name=node.name,
                outputs=node.output,
                dtypes=[dtype],
            )


@contextlib.contextmanager
def _quietly():
    """Without the messages of the tools, which are for their developers."""
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "root")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
