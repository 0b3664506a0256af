"""Which tokens attend to which: in every block, by rollout, and from the class token."""

import functools
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops

from keras_t2t.inspection.graph import evaluate, to_numpy
from keras_t2t.layers import PerformerAttention
from keras_t2t.models.graph import encoder_blocks, t2t_blocks, token_grid


def attention_maps(
    model: keras.Model,
    images: np.ndarray,
    layers: Sequence[str] | None = None,
    queries: Sequence[tuple[float, float]] | str | None = None,
) -> dict[str, np.ndarray]:
    """The attention of the encoder and of the T2T blocks, as the model computes it.

    The inputs of the blocks are read off the model's own graph, and the blocks' own layers then say
    how they attend; the model is neither changed nor rebuilt. The Performer never computes an
    attention matrix; shown is the one that its random features imply.

    Args:
        model: A model that `T2TViT` built, or one loaded.
        images: Array `(batch, height, width, channels)`, as the model takes (normalised).
        layers: Names of T2T and encoder blocks. `None`, the default, means all.
        queries: Where in the image the query tokens of the T2T blocks are: a sequence of (row,
            column), each a fraction of the image in [0, 1). Or `"all"` tokens, which for a
            Performer at 224 px is a matrix of 3136 x 3136 for each image. `None`, the default,
            means the centre for a Performer and all for a Transformer.

    Returns:
        Dict from the name of a block to its float32 NumPy array: `(batch, heads, tokens, tokens)`
        for encoder blocks, the class token first; `(batch, 1, queries, tokens)` for T2T blocks,
        whose tokens run along the rows of their grid. Each row sums to 1.

    Raises:
        ValueError: If the model is no T2T-ViT, a layer is not a block with attention, a query
            lies outside the image, or the images do not fit the model.
    """
    stages = {block.name: block for block in t2t_blocks(model)}
    blocks = stages | {block.name: block for block in encoder_blocks(model)}
    names = list(blocks) if layers is None else list(layers)
    for name in names:
        if name not in blocks:
            raise ValueError(f"layers: expected names among {', '.join(blocks)}, got {name!r}")
    inputs = evaluate(model, {name: blocks[name].input for name in names}, images)
    maps = {}
    for name in names:
        block, tokens, indices = blocks[name], inputs[name], None
        if name in stages:
            indices = _query_indices(queries, block)
            tokens = ops.reshape(tokens, (len(images), -1, tokens.shape[-1]))
        weights = block.attention.attention_weights(block.norm1(tokens), indices)
        maps[name] = to_numpy(weights)
    return maps


def _query_indices(queries, block):
    """The indices of the tokens at `queries` in the grid of a T2T block; `None` for all."""
    if queries is None:
        queries = ((0.5, 0.5),) if isinstance(block.attention, PerformerAttention) else "all"
    if isinstance(queries, str) and queries == "all":
        return None
    try:
        places = np.asarray(queries, "float64")
    except (TypeError, ValueError):
        places = np.empty((0, 0))
    if places.ndim != 2 or places.shape[1] != 2 or not ((places >= 0) & (places < 1)).all():
        raise ValueError(
            'queries: expected "all" or (row, column) pairs of fractions in [0, 1), '
            f"got {queries!r}"
        )
    rows, columns = block.grid
    return (places * (rows, columns)).astype(int) @ (columns, 1)


def attention_rollout(maps: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> np.ndarray:
    """How much each token contributes to each other through all encoder blocks.

    With `A` the mean over heads of a block's attention, and half of what passes going through its
    residual connection as in the paper, the product of `(A + I) / 2` over the blocks.

    Args:
        maps: The dict that `attention_maps` returns (T2T blocks in it are passed over), or a
            sequence of arrays `(batch, heads, tokens, tokens)`, the first block first.

    Returns:
        float32 NumPy array `(batch, tokens, tokens)`; each row sums to 1.

    Raises:
        ValueError: If there is no encoder block among the maps.

    Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", 2020, section 3.
    """
    means = [attention.mean(axis=1, dtype="float64") for attention in _of_encoder(maps)]
    mixings = [(mean + np.eye(mean.shape[-1])) / 2 for mean in means]
    return functools.reduce(lambda rollout, mixing: mixing @ rollout, mixings).astype("float32")


def class_token_attention(maps: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> np.ndarray:
    """The class token's attention to the patch tokens in the last encoder block.

    Args:
        maps: As `attention_rollout` takes them.

    Returns:
        float32 NumPy array `(batch, heads, patch tokens)`. What is missing to 1 is the class
        token's attention to itself.

    Raises:
        ValueError: If there is no encoder block among the maps.
    """
    return _of_encoder(maps)[-1][:, :, 0, 1:]


def on_grid(model: keras.Model, values: np.ndarray) -> np.ndarray:
    """Arranges one value for each patch token of the encoder as the patches lie in the image.

    Args:
        model: A model that `T2TViT` built.
        values: Array `(..., patch tokens)`, such as `class_token_attention(maps)` or
            `attention_rollout(maps)[:, 0, 1:]`.

    Returns:
        Array `(..., rows, columns)`.

    Raises:
        ValueError: If the model is no T2T-ViT or the values do not fill its grid.
    """
    rows, columns = token_grid(model)
    if values.shape[-1] != rows * columns:
        raise ValueError(
            f"values: expected one for each of the {rows} x {columns} patch tokens of model "
            f"{model.name!r}, the class token left out, got {values.shape[-1]}"
        )
    return values.reshape(*values.shape[:-1], rows, columns)


def _of_encoder(maps):
    """The encoder blocks' maps, which unlike those of T2T blocks have a class token."""
    if hasattr(maps, "items"):
        maps = [value for name, value in maps.items() if not name.startswith("t2t_block")]
    maps = [np.asarray(value) for value in maps]
    if not maps:
        raise ValueError("maps: expected the attention of at least one encoder block, got none")
    return maps
