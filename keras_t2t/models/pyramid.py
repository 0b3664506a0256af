"""The T2T stages and the encoder as a feature pyramid for dense tasks."""

import keras

from keras_t2t.layers import SoftSplit
from keras_t2t.models.graph import encoder_blocks, t2t_blocks, token_grid


def feature_pyramid(model: keras.Model) -> keras.Model:
    """A model that gives the maps of the T2T stages and of the encoder, for dense tasks.

    It shares its layers and weights with `model`, and trains, saves and exports as any other.

    Args:
        model: A model that `T2TViT` built, or one loaded, with or without its head.

    Returns:
        A functional `keras.Model` from the same images to a dict of `(batch, rows, columns,
        channels)`: the T2T blocks (or convolutions) and, last, the encoder's patch tokens after the
        last norm. The names say the stride in pixels: `"stride_4"`, `"stride_8"`, `"stride_16"`
        with the published soft splits, 56, 28 and 14 tokens a side at 224 px; `"stride_4x2"` where
        rows and columns differ.

    Raises:
        ValueError: If the model is no T2T-ViT.
    """
    encoder_blocks(model)
    steps = [layer for layer in model.layers if isinstance(layer, (SoftSplit, keras.layers.Conv2D))]
    stages = t2t_blocks(model) or steps[:-1]
    rows, columns = token_grid(model)
    tokens = model.get_layer("norm").output
    tokens = keras.layers.Cropping1D((1, 0), name="patch_tokens")(tokens)
    tokens = keras.layers.Reshape((rows, columns, tokens.shape[-1]), name="patch_grid")(tokens)
    outputs, stride = {}, (1, 1)
    for step, output in zip(steps, [*(stage.output for stage in stages), tokens], strict=True):
        stride = tuple(a * b for a, b in zip(stride, step.strides, strict=True))
        name = str(stride[0]) if stride[0] == stride[1] else f"{stride[0]}x{stride[1]}"
        outputs[f"stride_{name}"] = output
    return keras.Model(model.input, outputs, name=f"{model.name}_pyramid")
