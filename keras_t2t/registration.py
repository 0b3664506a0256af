"""Keras finds the classes of this package in model files, whichever of the two is imported first.

Keras imports no package but its own when it reads a file. So `import keras_t2t` registers its
classes: at once if Keras is loaded, else as soon as it is. So it does with what tf2onnx lacks, for
Keras' own `model.export("model.onnx", format="onnx")`, which would write an invalid file without.
"""

import importlib

from wrapt import register_post_import_hook

# All that have classes which Keras can save. It may be one of them that imports Keras first, and in
# the middle of which the others are imported: so none of them imports names from another one.
MODULES = (
    "layers",
    "models.arranged_model",
    "preprocessing_layer",
    "training.optimizer",
    "training.schedule",
)


def install() -> None:
    """Registers the classes now, or when Keras is imported; what tf2onnx lacks likewise."""
    register_post_import_hook(_register, "keras")
    register_post_import_hook(_teach, "tf2onnx")


def _register(keras):
    for name in MODULES:
        importlib.import_module(f"keras_t2t.{name}")


def _teach(tf2onnx):
    importlib.import_module("keras_t2t.exporting.erfc")
