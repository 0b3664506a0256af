"""Small models whose attention is far from uniform, and images for them."""

import keras
import numpy as np

from keras_t2t import T2TViT

SHAPE = (24, 32, 3)  # the grids are 6 x 8, 3 x 4 and 2 x 2


def small_model(token_mixer="performer", **arguments):
    model = T2TViT(
        **{
            "input_shape": SHAPE,
            "token_mixer": token_mixer,
            "token_dim": 8,
            "embed_dim": 24,
            "depth": 2,
            "num_heads": 3,
            "classes": 5,
            "seed": 0,
            **arguments,
        }
    )
    # The published initial weights are small: queries and keys would all but agree. Larger still,
    # and a Performer's features underflow.
    for variable in model.trainable_weights:
        if variable.name == "kernel":
            scale = 2 if "kqv" in variable.path else 20
            variable.assign(scale * keras.ops.convert_to_numpy(variable))
    return model


def images(count=2, shape=SHAPE):
    return np.random.default_rng(0).normal(size=(count, *shape)).astype("float32")
