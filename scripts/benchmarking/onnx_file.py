"""The ONNX file of a network: `python onnx_file.py CASE PATH`, run with the TensorFlow backend."""

import json
import sys

import tensorflow as tf
from benchmarking.worker import t2t_vit

from keras_t2t.exporting.onnx import convert


def main():
    case, path = json.loads(sys.argv[1]), sys.argv[2]
    size = (case["batch"], case["image_size"], case["image_size"], 3)
    convert(path, t2t_vit(case), tf.TensorSpec(size, "float32", name="images"))


if __name__ == "__main__":
    main()
