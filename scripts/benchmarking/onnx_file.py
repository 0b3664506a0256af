"""The ONNX file of a network: `python onnx_file.py CASE PATH`, run with the TensorFlow backend."""

import json
import sys

import keras
import tensorflow as tf
import tf2onnx
from benchmarking.worker import t2t_vit


def main():
    case, path = json.loads(sys.argv[1]), sys.argv[2]
    model = t2t_vit(case)
    model = keras.Model(model.input, model.output)
    for layer in model._flatten_layers():
        # tf2onnx does not know Erfc, with which TensorFlow writes the exact GELU.
        if getattr(layer, "activation", None) is keras.activations.gelu:
            layer.activation = lambda x: 0.5 * x * (1.0 + tf.math.erf(x * 0.5**0.5))
    size = (case["batch"], case["image_size"], case["image_size"], 3)
    signature = [tf.TensorSpec(size, "float32", name="images")]
    function = tf.function(lambda images: model(images, training=False), signature)
    tf2onnx.convert.from_function(function, signature, opset=18, output_path=path)


if __name__ == "__main__":
    main()
