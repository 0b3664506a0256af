"""Networks that are about to be filled with weights."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np

from keras_t2t import compat
from keras_t2t.models.t2t_vit import T2TViT
from keras_t2t.models.variants import VARIANTS

# `T2TViT` with arguments filled in: a network that is not built yet.
Network = functools.partial[keras.Model]


def network(variant: str) -> Network:
    """`T2TViT` with the architecture of a published variant filled in."""
    return functools.partial(T2TViT, **dataclasses.asdict(VARIANTS[variant]))


def build_unfilled(build: Callable, skip_head: bool = False, **arguments) -> keras.Model:
    """`build(**arguments)` without drawing initial values, all zero until weights are loaded.

    Drawing takes longer than loading; on JAX, which compiles it for each shape, several times.

    Args:
        build: What returns a model, such as `T2TViT` or `network(variant)`.
        skip_head: bool, whether the head gets its initial values after all.
        **arguments: Of `build`.

    Raises:
        ValueError: as `build`.
    """
    with keras.StatelessScope():  # at whose end Keras calls the initialisers
        model = build(**arguments)
        for variable in model.weights:
            if not (skip_head and variable.path.startswith("head/")):
                compat.set_initializer(variable, _zeros)
    return model


def _zeros(shape, dtype):
    # On JAX, Keras' own zeros would be compiled for each shape.
    return keras.ops.convert_to_tensor(np.zeros(shape, "float32"), dtype)
