"""Models that are about to be filled with weights."""

import keras
import numpy as np

from keras_t2t.models.t2t_vit import T2TViT
from keras_t2t.weights.mapping import published_slots


def build_unfilled(arguments, skip_head=False):
    """`T2TViT(**arguments)` without drawing initial values, all zero until weights are loaded.

    Drawing takes longer than loading; on JAX, which compiles it for each shape, several times.

    Args:
        arguments: dict, arguments of `T2TViT`.
        skip_head: bool, whether the head gets its initial values after all.

    Raises:
        ValueError: as `T2TViT` and `published_slots`.
    """
    with keras.StatelessScope():  # at whose end Keras calls the initialisers
        model = T2TViT(**arguments)
        for key, slot in published_slots(model).items():
            if not (skip_head and key.startswith("head.")):
                slot.variable._initializer = _zeros
    return model


def _zeros(shape, dtype):
    return keras.ops.convert_to_tensor(np.zeros(shape, "float32"), dtype)
