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

    input_spec = keras.layers.InputSpec(ndim=4)

    def __init__(
        self,
        kernel_size: int | tuple[int, ...],
        strides: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.kernel_size = pair(kernel_size, "kernel_size", minimum=1)
        self.strides = pair(strides, "strides", minimum=1)
        self.padding = pair(padding, "padding", minimum=0)

    def build(self, input_shape):
        static_shape(self, input_shape, ("batch", "height", "width", "channels"))
        self.compute_output_shape(input_shape)

    def call(self, inputs):
        _, *counts, _ = self.compute_output_shape(inputs.shape)
        (height, width), x = self.padding, inputs
        x = ops.pad(x, ((0, 0), (height, height), (width, width), (0, 0)))
        # The columns of each patch side by side, and then its rows: (row, column, channel).
        for axis in (2, 1):
            count, kernel, stride = (
                sizes[axis - 1] for sizes in (counts, self.kernel_size, self.strides)
            )
            places = [slice(start, start + count * stride, stride) for start in range(kernel)]
            before = (slice(None),) * axis
            x = ops.concatenate([x[(*before, place)] for place in places], axis=-1)
        return x

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

    input_spec = keras.layers.InputSpec(ndim=3)

    def __init__(self, grid_size: tuple[int, int] | None = None, **kwargs):
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
