"""Where the parts of a T2T-ViT stand in a model's graph."""

import keras

from keras_t2t.layers import EncoderBlock, T2TBlock


def t2t_blocks(model: keras.Model) -> list[keras.layers.Layer]:
    """The T2T blocks of a model, in order; none for the other token mixers."""
    return [layer for layer in model.layers if isinstance(layer, T2TBlock)]


def encoder_blocks(model: keras.Model) -> list[keras.layers.Layer]:
    """The encoder blocks of a model, in order.

    Raises:
        ValueError: If the model has none.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, EncoderBlock)]
    if not blocks:
        inner = [layer.name for layer in model.layers if isinstance(layer, keras.Model)]
        hint = f" Pass model.get_layer({inner[0]!r}), if that is one." if inner else ""
        raise ValueError(
            f"model {model.name!r}: expected a model that T2TViT built, or one loaded from its "
            f"file, but it has no encoder block.{hint}"
        )
    return blocks


def token_grid(model: keras.Model) -> tuple[int, int]:
    """Rows and columns of the patch tokens in the encoder.

    Args:
        model: A model that `T2TViT` built.

    Returns:
        Tuple of two ints; `(14, 14)` for the published models at 224 px.

    Raises:
        ValueError: If the model is no T2T-ViT.
    """
    encoder_blocks(model)
    return tuple(model.get_layer("projection").output.shape[1:3])
