"""Pictures of attention over an image."""

import math
from collections.abc import Mapping

import numpy as np

from keras_t2t.inspection.plot_style import WIDTH, new_figure, rgb, styled


@styled
def plot_attention(
    image: np.ndarray,
    heats: Mapping[str, np.ndarray],
    columns: int = 6,
    marks: Mapping[str, tuple[float, float]] | None = None,
):
    """Draws maps of attention over an image, each scaled from its minimum to its maximum.

    Args:
        image: Array `(height, width)` or `(height, width, 1 or 3)` in 0..1.
        heats: Dict from a title to an array `(rows, columns)`, such as
            `on_grid(model, attention_rollout(maps)[0, 0, 1:])`.
        columns: Int, panels in a row. Defaults to 6.
        marks: Dict from a title to (row, column), fractions of the image, where a cross goes: the
            query whose attention is shown.

    Returns:
        A `matplotlib.figure.Figure`, the image itself its first panel.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    image = rgb(image)
    height, width = image.shape[:2]
    smooth = "nearest" if width < 100 else "antialiased"
    lines = math.ceil((1 + len(heats)) / columns)
    figure = new_figure(lines * (WIDTH / columns * height / width + 0.28))
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    panels[0].imshow(image, interpolation=smooth)
    panels[0].set_title("image")
    # Grey and darkened, so that all colour and brightness is the attention's.
    grey = np.repeat(0.6 * image.mean(axis=-1, keepdims=True), 3, axis=-1)
    whole = (-0.5, width - 0.5, height - 0.5, -0.5)
    for panel, (title, heat) in zip(panels[1:], heats.items(), strict=False):
        heat = np.asarray(heat, "float32")
        heat = (heat - heat.min()) / (np.ptp(heat) or 1)
        panel.imshow(grey, interpolation=smooth)
        panel.imshow(heat, alpha=0.2 + 0.6 * heat, extent=whole, interpolation="bilinear")
        panel.set_title(title)
        if marks and title in marks:
            row, column = marks[title]
            x, y = column * width - 0.5, row * height - 0.5
            for size, color in ((6, "black"), (3, "white")):
                panel.plot(x, y, "+", color=color, markersize=12, markeredgewidth=size)
    return figure
