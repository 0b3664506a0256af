"""The graph of a T2T-ViT, computed faster where its parts allow it."""

import keras
from keras import ops

from keras_t2t.layers import EncoderBlock, SoftSplit, T2TBlock, TokenPooling
from keras_t2t.rewrite.soft_split_linear import folds, split_linear


@keras.saving.register_keras_serializable(package="keras_t2t")
class ArrangedModel(keras.Model):
    """A functional model that computes what its graph says, without what nobody reads.

    - The last encoder block computes the class token only, where that is all that is pooled.
    - The soft splits after the first are folded into the linear layer behind them, so that
      overlapping patches never stand in memory; not where that layer is quantised or has LoRA.
    - The Performer's projection is folded into the sums that its tokens share, likewise.

    Only a call of the model itself does so. The graph is drawn layer by layer, and any other model
    made of it computes it as drawn: `keras.Model(model.input, model.output)` is the same function
    plainly computed, `keras.Model(model.input, model.get_layer("encoder_block_13").output)` gives
    all tokens. Variables, their names and files are the same either way.
    """

    def call(self, inputs, training=None, mask=None):
        layers = self._chain()
        if layers is None or mask is not None or len(getattr(inputs, "shape", ())) != 4:
            return super().call(inputs, training=training, mask=mask)
        last_block = _last_block(layers)
        x, split = ops.convert_to_tensor(inputs, self.inputs[0].dtype), None
        for earlier, layer, following in zip(
            [None, *layers[:-1]], layers, [*layers[1:], None], strict=True
        ):
            if isinstance(layer, SoftSplit) and _folds(earlier, layer, following):
                split = layer
            elif type(layer) is T2TBlock:
                x, split = layer(x, soft_split=split, fold_projection=True), None
            elif split is not None:
                x, split = split_linear(x, split, layer), None
            elif layer is last_block:
                x = layer(x, class_token_only=True)
            else:
                x = layer(x)
        return x

    def _chain(self):
        """The layers behind the input, if each reads the one before it alone; else `None`."""
        first, *layers = self.layers
        x = first.output
        for layer in layers:
            if layer.input is not x:
                return None
            x = layer.output
        return layers if self.output is x and self.inputs[0] is first.output else None


def _last_block(layers):
    """The encoder block of whose output only the class token is read, or `None`."""
    for block, norm, pooling in zip(layers, layers[1:], layers[2:], strict=False):
        if isinstance(pooling, TokenPooling) and pooling.mode == "token":
            expected = isinstance(block, EncoderBlock) and block.flavor != "squeeze_excite"
            return block if expected and norm.name == "norm" else None
    return None


def _folds(earlier, soft_split, layer):
    """Whether a soft split is folded into the layer behind it."""
    if type(layer) is T2TBlock:
        # Of an image it is not: its flat parts have next to no variance, which a norm divides by,
        # and with it the rounding errors, several times those of the graph.
        return isinstance(earlier, T2TBlock) and folds(soft_split, layer.first_linear)
    return folds(soft_split, layer) and layer.activation is keras.activations.linear
