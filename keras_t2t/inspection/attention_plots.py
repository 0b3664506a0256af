"""Pictures of attention over an image."""

import math

import numpy as np

from keras_t2t.inspection.plot_style import WIDTH, new_figure, rgb, styled


@styled
def plot_attention(image, heats, columns=6, marks=None):
    """Draws maps of attention over an image, each from its smallest value to its largest.

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
    pixels = {"interpolation": "nearest" if width < 100 else "antialiased"}
    lines = math.ceil((1 + len(heats)) / columns)
    figure = new_figure(lines * (WIDTH / columns * height / width + 0.28))
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_axis_off()
    panels[0].imshow(image, **pixels)
    panels[0].set_title("image")
    # Grey and darkened, so that all colour and brightness is the attention's.
    grey = np.repeat(0.6 * image.mean(axis=-1, keepdims=True), 3, axis=-1)
    for panel, (title, heat) in zip(panels[1:], heats.items(), strict=False):
        heat = np.asarray(heat, "float32")
        heat = (heat - heat.min()) / (np.ptp(heat) or 1)
        panel.imshow(grey, **pixels)
        panel.imshow(
            heat,
            cmap="viridis",
            alpha=0.2 + 0.6 * heat,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="bilinear",
        )
        panel.set_title(title)
        if marks and title in marks:
            row, column = marks[title]
            for size, color in ((6, "black"), (3, "white")):
                panel.plot(
                    column * width - 0.5,
                    row * height - 0.5,
                    marker="+",
                    color=color,
                    markersize=12,
                    markeredgewidth=size,
                )
    return figure
