"""Resizing a checkpoint's table of positions to another grid of tokens."""

import math

import numpy as np


def resize_positions(table, grid, old_grid=None):
    """Resizes the patch rows of a table of positions, bicubically as PyTorch does.

    Args:
        table: Array `(1, 1 + patches, channels)`, first the class token's row, then the patches,
            row by row.
        grid: Pair of ints, rows and columns of the new grid.
        old_grid: Pair of ints, rows and columns of the table's grid. `None` means a square.

    Returns:
        Array `(1, 1 + rows * columns, channels)` of the same dtype. The class token's row stays.

    Raises:
        ValueError: If the patches do not fill their grid.

    Source: `resize_pos_embed` in `utils.py`; `torch.nn.functional.interpolate` with
        `mode="bicubic"`, whose kernel has a = -0.75 where that of most others has -0.5.
    """
    _, tokens, channels = table.shape
    rows, columns = old_grid or (math.isqrt(tokens - 1),) * 2
    if rows * columns != tokens - 1:
        kind = f"{rows} x {columns}" if old_grid else "square"
        raise ValueError(
            f"expected positions of a {kind} grid of patches and a class token, "
            f"received {tokens} rows"
        )
    patches = table[0, 1:].astype("float64").reshape(rows, columns, channels)
    down, across = _bicubic_matrix(rows, grid[0]), _bicubic_matrix(columns, grid[1])
    patches = np.einsum("ri,cj,ijd->rcd", down, across, patches, optimize=True)
    patches = patches.reshape(1, -1, channels).astype(table.dtype)
    return np.concatenate((table[:, :1], patches), axis=1)


def _bicubic_matrix(size, new_size, a=-0.75):
    """Weights (new_size, size) of cubic convolution about pixel centres, edge pixels repeated."""
    centre = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    left = np.floor(centre).astype(int)
    matrix = np.zeros((new_size, size))
    for offset in (-1, 0, 1, 2):
        distance = np.abs(centre - (left + offset))
        near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        index = np.clip(left + offset, 0, size - 1)
        np.add.at(matrix, (np.arange(new_size), index), np.where(distance <= 1, near, far))
    return matrix
