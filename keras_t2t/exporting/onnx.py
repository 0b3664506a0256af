"""ONNX models."""

import contextlib
import io
import logging
import warnings

from keras_t2t.exporting.serving import images_spec
from keras_t2t.inference.metadata import NAME
from keras_t2t.seal import DIGITS, SEAL, sealed

OPSET = 18


def write(path, network, metadata, options):
    """Writes an ONNX model of opset 18, which carries its metadata as a property.

    Args:
        path: Path of the file.
        network: A model as `serving_model` makes.
        metadata: Its `Metadata`.
        options: The `ExportOptions`.

    Returns:
        Dict of what is to be reported: the opset.
    """
    import onnx

    convert(path, network, images_spec(network, options.batch))
    with _quietly():
        if options.precision == "dynamic_int8":
            from onnxruntime.quantization import QuantType, quantize_dynamic

            # ONNX Runtime multiplies unsigned inputs with signed weights; processors without VNNI
            # add pairs of those products in 16 bits, which only weights of 7 bits never overflow.
            # Unsigned weights do not either, but keep other processors from using VNNI and AMX.
            settings = {"per_channel": True, "reduce_range": True, "weight_type": QuantType.QInt8}
            quantize_dynamic(path, path, **settings)
        elif options.precision == "float16":
            from onnxruntime.transformers.float16 import convert_float_to_float16

            onnx.save(convert_float_to_float16(onnx.load(path), keep_io_types=True), path)
    proto = onnx.load(path)
    onnx.helper.set_model_props(proto, {NAME: metadata.to_json()})
    path.write_bytes(_sealed(proto))
    return {"opset": OPSET}


def _sealed(proto):
    """The bytes of an ONNX model that end in one more property, the seal."""
    import onnx

    # What is written behind a message is one more of its fields.
    seal = onnx.ModelProto()
    onnx.helper.set_model_props(seal, {SEAL.decode(): DIGITS * "0"})
    return sealed((proto.SerializeToString() + seal.SerializeToString())[:-DIGITS])


def convert(path, network, spec):
    """Writes a Keras model as ONNX in float32.

    Args:
        path: Path of the file.
        network: A `keras.Model`.
        spec: The `tf.TensorSpec` of its input.
    """
    with _quietly():
        network.export(
            str(path), "onnx", verbose=False, input_signature=[spec], opset_version=OPSET
        )


@contextlib.contextmanager
def _quietly():
    """Without the messages of the tools, which are for their developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
