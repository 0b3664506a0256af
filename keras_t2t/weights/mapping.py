"""Published checkpoint keys and our variables: which belongs to which, and how the axes turn."""

import dataclasses
import math
from collections.abc import Iterator

import keras
import numpy as np

from keras_t2t.layers import (
    ClassToken,
    DenseEncoderBlock,
    EncoderBlock,
    GhostAttention,
    PerformerAttention,
    SinusoidPositions,
    SoftSplit,
    T2TBlock,
)


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where the array of one published key belongs.

    Published array, reshaped to `factors`, its axes ordered by `axes`, reshaped to the variable's
    shape: that is the variable.
    """

    variable: keras.Variable
    published_shape: tuple
    factors: tuple
    axes: tuple

    def to_variable(self, array):
        """The published array in the variable's layout."""
        return array.reshape(self.factors).transpose(self.axes).reshape(self.variable.shape)

    def to_published(self, array):
        """The variable's array in the published layout."""
        turned = tuple(self.factors[axis] for axis in self.axes)
        return array.reshape(turned).transpose(np.argsort(self.axes)).reshape(self.published_shape)


def published_slots(model: keras.Model) -> dict[str, Slot]:
    """The slots of a model, `{published key: Slot}`, in the order of the published state dict.

    Args:
        model: A model that `T2TViT` built, with a Performer or Transformer token mixer.

    Raises:
        ValueError: If the model is not one.
    """
    layers = {layer.name: layer for layer in model.layers}
    splits, blocks, token, positions = (
        [layer for layer in model.layers if isinstance(layer, kind)]
        for kind in (SoftSplit, T2TBlock, ClassToken, SinusoidPositions)
    )
    if not (token and positions and blocks and len(splits) == len(blocks) + 1):
        raise ValueError(
            "`model` must be a T2T-ViT with token_mixer='performer' or 'transformer': no other has "
            f"published checkpoints. Received: a model {model.name!r} with the layers "
            f"{', '.join(list(layers)[:8])}, ..."
        )
    slots = {"cls_token": _as_is(token[0].token), "pos_embed": _as_is(positions[0].table)}
    for index, (split, block) in enumerate(zip(splits, blocks, strict=False), start=1):
        prefix = f"tokens_to_token.attention{index}"
        slots.update(_t2t_block(prefix, block, split.kernel_size))
    slots.update(_linear("tokens_to_token.project", layers["projection"], splits[-1].kernel_size))
    for layer in model.layers:
        index = layer.name.rsplit("_", 1)[-1]
        if isinstance(layer, EncoderBlock):
            slots.update(_encoder_block(f"blocks.{index}", layer))
        elif layer.name.startswith("transition_"):
            slots.update(_linear(f"blocks.{index}.linear", layer))
    slots.update(_norm("norm", layers["norm"]))
    if "head" in layers:
        slots.update(_linear("head", layers["head"]))
    return slots


def published_views(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights of a model in the published layout, without copies where there need be none.

    Raises:
        ValueError: If the model is not one that `published_slots` takes, or is quantised.
    """
    arrays = {}
    for key, slot in published_slots(model).items():
        require_float(slot.variable, key)
        arrays[key] = slot.to_published(keras.ops.convert_to_numpy(slot.variable))
    return arrays


def require_float(variable: keras.Variable, key: str) -> None:
    """Raises ValueError for what quantisation has made integers."""
    if not keras.backend.is_float_dtype(variable.dtype):
        raise ValueError(
            f"`model` is quantised, which published weights are not: {key} is {variable.dtype}."
        )


def _as_is(variable):
    shape = tuple(variable.shape)
    return Slot(variable, shape, shape, tuple(range(len(shape))))


def _linear(prefix, layer, kernel_size=None) -> Iterator[tuple[str, Slot]]:
    """A Linear, published as (out, in); after a soft split its input is (channel, row, column)."""
    inputs, outputs = layer.kernel.shape
    factors, axes = (outputs, inputs), (1, 0)
    if kernel_size is not None:
        factors, axes = (outputs, inputs // math.prod(kernel_size), *kernel_size), (2, 3, 1, 0)
    yield f"{prefix}.weight", Slot(layer.kernel, (outputs, inputs), factors, axes)
    if layer.use_bias:
        yield f"{prefix}.bias", _as_is(layer.bias)


def _norm(prefix, layer, kernel_size=None) -> Iterator[tuple[str, Slot]]:
    for name, variable in (("weight", layer.gamma), ("bias", layer.beta)):
        slot = _as_is(variable)
        if kernel_size is not None:
            (size,) = slot.published_shape
            factors = (size // math.prod(kernel_size), *kernel_size)
            slot = Slot(variable, (size,), factors, (1, 2, 0))
        yield f"{prefix}.{name}", slot


def _t2t_block(prefix, block, kernel_size) -> Iterator[tuple[str, Slot]]:
    attention = block.attention
    # The published Performer is one module, its MLP a Sequential; the Transformer is a block.
    if isinstance(attention, PerformerAttention):
        yield f"{prefix}.w", _as_is(attention.features)
        yield from _linear(f"{prefix}.kqv", attention.kqv, kernel_size)
        yield from _linear(f"{prefix}.proj", attention.projection)
        mlp = ("mlp.0", "mlp.2")
    else:
        yield from _linear(f"{prefix}.attn.qkv", attention.qkv, kernel_size)
        yield from _linear(f"{prefix}.attn.proj", attention.projection)
        mlp = ("mlp.fc1", "mlp.fc2")
    yield from _norm(f"{prefix}.norm1", block.norm1, kernel_size)
    yield from _norm(f"{prefix}.norm2", block.norm2)
    yield from _linear(f"{prefix}.{mlp[0]}", block.mlp.fc1)
    yield from _linear(f"{prefix}.{mlp[1]}", block.mlp.fc2)


def _encoder_block(prefix, block) -> Iterator[tuple[str, Slot]]:
    attention, mlp = block.attention, block.mlp
    yield from _norm(f"{prefix}.norm1", block.norm1)
    if isinstance(attention, GhostAttention):
        for name in ("query", "key", "value"):
            yield from _linear(f"{prefix}.attn.{name[0]}", getattr(attention, name))
        for name in ("query", "key", "value"):
            cheap = getattr(attention, f"cheap_{name}")
            yield f"{prefix}.attn.cheap_operation_{name[0]}.weight", _depthwise(cheap)
    else:
        yield from _linear(f"{prefix}.attn.qkv", attention.qkv)
    yield from _linear(f"{prefix}.attn.proj", attention.projection)
    if attention.squeeze_excite:
        yield from _linear(f"{prefix}.attn.se_layer.fc.0", attention.excite.squeeze)
        yield from _linear(f"{prefix}.attn.se_layer.fc.2", attention.excite.excite)
    yield from _norm(f"{prefix}.norm2", block.norm2)
    yield from _linear(f"{prefix}.mlp.fc1", mlp.fc1)
    yield from _linear(f"{prefix}.mlp.fc2", mlp.fc2)
    if isinstance(attention, GhostAttention):
        yield f"{prefix}.mlp.cheap_operation2.weight", _depthwise(mlp.cheap_2)
        yield f"{prefix}.mlp.cheap_operation3.weight", _depthwise(mlp.cheap_3)
    if isinstance(block, DenseEncoderBlock):
        yield from _linear(f"{prefix}.dense_linear", block.growth)


def _depthwise(variable):
    """The factors of a depthwise 1x1 convolution, published as (channels, 1, 1)."""
    shape = (variable.shape[-1], 1, 1)
    return Slot(variable, shape, shape, (1, 2, 0))
