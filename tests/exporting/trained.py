"""Small models that answer differently to different images, and such images."""

import keras
import numpy as np

from keras_t2t import T2TViT

SHAPE = (32, 40, 3)


def trained_model(**arguments):
    """A small T2T-ViT whose weights are as large as trained ones."""
    defaults = {
        "input_shape": SHAPE,
        "token_dim": 16,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 3,
        "classes": 6,
        "preprocessing": "imagenet",
    }
    return with_weights(T2TViT(**{**defaults, **arguments}))


def with_weights(model):
    rng = np.random.default_rng(0)
    for variable in model.trainable_weights:
        shape = variable.shape
        noise = rng.normal(size=shape)
        scale = 0.1 if len(shape) != 2 else shape[0] ** -0.5
        variable.assign(scale * noise + (variable.name == "gamma"))
    return model


def inputs(count=4, shape=SHAPE, seed=0):
    """Prepared images: smooth, with noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 4, 5, shape[-1]))
    grown = keras.ops.image.resize(coarse.astype("float32"), shape[:2], "bilinear")
    return np.asarray(grown) + 0.1 * rng.normal(size=(count, *shape)).astype("float32")


def photos(count=4, size=(50, 70), channels=3, seed=0):
    """uint8 photographs of another size than models take."""
    smooth = inputs(count, (*size, channels), seed)
    return list(np.clip(60 * smooth + 128, 0, 255).astype("uint8"))
