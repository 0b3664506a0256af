"""Soft split and re-structurization: between images, token grids and token sequences."""

import math

import keras
from keras import ops

from keras_t2t.validation import pair, static_shape


@keras.saving.register_keras_serializable(package="keras_t2t")
class SoftSplit(keras.layers.Layer):
    """Cuts an image or a grid of tokens into overlapping patches, one token each.

    The semantics are those of `keras.ops.image.extract_patches` after zero padding: the values of a
    patch stand in the order (kernel row, kernel column, channel). The published implementation uses
    `torch.nn.Unfold`, whose order is (channel, kernel row, kernel column).

    Args:
        kernel_size: Int or pair of ints, the height and width of a patch.
        strides: Int or pair of ints, the step from patch to patch. Patches overlap where it is
            smaller than the kernel.
        padding: Int or pair of ints, the zeros added on both sides of height and width.

    Input shape: `(batch, height, width, channels)`; all but the batch must be known.
    Output shape: `(batch, rows, columns, kernel_height * kernel_width * channels)` with
        `rows = (height + 2 * padding - kernel_height) // stride + 1`, columns likewise.

    Raises:
        ValueError: If an argument is not a positive int (padding: not negative) or a pair of them,
            or if the padded input is smaller than the kernel.

    Source: section 3.1 of the paper; `T2T_module` in `models/t2t_vit.py`.
    """

    def __init__(self, kernel_size, strides=1, padding=0, **kwargs):
        super().__init__(**kwargs)
        self.kernel_size = pair(kernel_size, "kernel_size", minimum=1)
        self.strides = pair(strides, "strides", minimum=1)
        self.padding = pair(padding, "padding", minimum=0)

    def build(self, input_shape):
        static_shape(self, input_shape, ("batch", "height", "width", "channels"))
        self.compute_output_shape(input_shape)

    def call(self, inputs):
        _, rows, columns, _ = self.compute_output_shape(inputs.shape)
        (pad_height, pad_width), channels = self.padding, inputs.shape[-1]
        # Only whole cells of `stride` pixels are cut, so that every later step is a reshape or a
        # slice of stride 1: no runtime has to gather, and an exported graph stays in one piece.
        (cells_high, extra_height), (cells_wide, extra_width) = (
            self._cells(axis, inputs.shape[1 + axis], count)
            for axis, count in enumerate((rows, columns))
        )
        x = ops.pad(
            inputs,
            (
                (0, 0),
                (pad_height, max(extra_height - pad_height, 0)),
                (pad_width, max(extra_width - pad_width, 0)),
                (0, 0),
            ),
        )
        (kernel_height, kernel_width), (stride_height, stride_width) = (
            self.kernel_size,
            self.strides,
        )
        x = x[:, : cells_high * stride_height, : cells_wide * stride_width]
        height = cells_high * stride_height
        x = ops.reshape(x, (-1, height, cells_wide, stride_width * channels))
        x = _join_neighbours(x, axis=2, count=columns, size=kernel_width * channels)
        x = ops.reshape(x, (-1, cells_high, stride_height, columns, kernel_width * channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4))
        x = ops.reshape(x, (-1, cells_high, columns, stride_height * kernel_width * channels))
        return _join_neighbours(x, axis=1, count=rows, size=kernel_height * kernel_width * channels)

    def _cells(self, axis, length, count):
        """How many cells `count` patches reach over, and the zeros that are missing for them."""
        kernel, stride = self.kernel_size[axis], self.strides[axis]
        cells = count - 1 + math.ceil(kernel / stride)
        return cells, cells * stride - length

    def compute_output_shape(self, input_shape):
        sizes = []
        for length, kernel, stride, padding in zip(
            input_shape[1:3], self.kernel_size, self.strides, self.padding, strict=True
        ):
            if length is None:
                sizes.append(None)
                continue
            size = (length + 2 * padding - kernel) // stride + 1
            if size < 1:
                raise ValueError(
                    f"{self.name}: an input of size {tuple(input_shape[1:3])} (height, width) "
                    f"leaves no token: with padding {self.padding} it must be at least as large "
                    f"as the kernel {self.kernel_size}."
                )
            sizes.append(size)
        channels = input_shape[3]
        if channels is not None:
            channels *= math.prod(self.kernel_size)
        return (input_shape[0], *sizes, channels)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }


def _join_neighbours(x, axis, count, size):
    """Puts each cell beside the ones after it on `axis`, until `size` values stand together."""
    width, shifted = x.shape[-1], []
    for start in range(math.ceil(size / width)):
        window = [slice(None)] * 4
        window[axis] = slice(start, start + count)
        window[3] = slice(min(width, size - start * width))
        shifted.append(x[tuple(window)])
    return ops.concatenate(shifted, axis=-1) if len(shifted) > 1 else shifted[0]


@keras.saving.register_keras_serializable(package="keras_t2t")
class Restructurization(keras.layers.Layer):
    """Puts a sequence of tokens back into the grid that it came from.

    Args:
        grid_size: Pair of ints, rows and columns of the grid, or `None` for a square grid.

    Input shape: `(batch, rows * columns, channels)`.
    Output shape: `(batch, rows, columns, channels)`.

    Raises:
        ValueError: If the number of tokens does not fill the grid.

    Source: section 3.1 of the paper.
    """

    def __init__(self, grid_size=None, **kwargs):
        super().__init__(**kwargs)
        self.grid_size = None if grid_size is None else pair(grid_size, "grid_size", minimum=1)

    def call(self, inputs):
        return ops.reshape(inputs, (-1, *self.compute_output_shape(inputs.shape)[1:]))

    def compute_output_shape(self, input_shape):
        static_shape(self, input_shape, ("batch", "tokens", "channels"))
        batch, tokens, channels = input_shape
        rows, columns = self.grid_size or (math.isqrt(tokens),) * 2
        if rows * columns != tokens:
            raise ValueError(
                f"{self.name}: {tokens} tokens do not fill a grid of {rows} x {columns}. Pass "
                "grid_size=(rows, columns)."
            )
        return (batch, rows, columns, channels)

    def get_config(self):
        return {**super().get_config(), "grid_size": self.grid_size}
