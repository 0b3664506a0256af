"""Pictures of feature maps and of dead channels."""

import math
from collections.abc import Mapping

import numpy as np

from keras_t2t.inspection.dead_channels import DeadChannels
from keras_t2t.inspection.plot_style import BLUE, GREEN, ORANGE, RED, WIDTH, new_figure, rgb, styled

# Colour and hatch of the kinds of dead channels.
KINDS = {"zero": (BLUE, ""), "constant": (ORANGE, "///"), "fixed": (GREEN, "...")}
GAP = 0.1  # between the maps of channels, each of which is one unit wide


@styled
def plot_feature_maps(
    maps: Mapping[str, np.ndarray],
    dead: DeadChannels | None = None,
    index: int = 0,
    channels: int = 24,
    columns: int = 12,
    image: np.ndarray | None = None,
):
    """Draws channels of layers side by side, as figure 2 of the paper does.

    Each channel is scaled from its minimum, black, to its maximum, white; a channel of one value is
    grey. Dead channels have a red, crossed frame.

    Args:
        maps: Dict from the name of a layer to `(batch, rows, columns, channels)`, as `feature_maps`
            returns.
        dead: The `DeadChannels` of these layers; `None`, the default, marks none.
        index: Int, which image of the batch. Defaults to 0.
        channels: Int, how many of each layer's first channels are drawn. Defaults to 24.
        columns: Int, how many of them side by side. Defaults to 12.
        image: Array `(height, width)` or `(height, width, 1 or 3)` in 0..1, drawn above the maps.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    heights = [
        math.ceil(min(channels, value.shape[-1]) / columns) * value.shape[1] / value.shape[2]
        for value in maps.values()
    ]
    if image is not None:
        heights.insert(0, 2.0)
    figure = new_figure(1.05 * WIDTH / columns * sum(heights) + 0.32 * len(heights))
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis in axes:
        axis.set_axis_off()
    if image is not None:
        axes[0].imshow(rgb(image))
        axes[0].set_anchor("W")
        axes[0].set_title("image")
    for axis, (layer, value) in zip(axes[-len(maps) :], maps.items(), strict=True):
        height, width, total = value.shape[1:]
        shown = np.moveaxis(value[index], -1, 0)[:channels]
        title = f"{layer}: {height} x {width}, {len(shown)} of {total} channels"
        mask = np.zeros(total, bool)
        if dead is not None:
            mask = dead.mask(layer)
            title += f", {mask.sum()} dead"
        axis.set_title(title)
        _draw_channels(axis, shown, mask, columns)
    return figure


def _draw_channels(axis, maps, dead, columns):
    """All channels on one axis, cheaper than an axis for each, with frames around the dead."""
    from matplotlib.patches import Rectangle

    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    shades = np.where(high > low, (maps - low) / np.where(high > low, high - low, 1), 0.5)
    height = maps.shape[1] / maps.shape[2]
    for place, shade in enumerate(shades):
        left, top = (place % columns) * (1 + GAP), (place // columns) * (height + GAP)
        right, bottom = left + 1, top + height
        axis.imshow(shade, cmap="gray", vmin=0, vmax=1, extent=(left, right, bottom, top))
        if dead[place]:
            frame = Rectangle((left, top), 1, height, fill=False, edgecolor=RED, linewidth=2.5)
            axis.add_patch(frame)
            cross = (left, right, math.nan, left, right), (top, bottom, math.nan, bottom, top)
            axis.plot(*cross, color=RED)
    axis.set_xlim(-GAP / 2, columns * (1 + GAP) - GAP / 2)
    axis.set_ylim(math.ceil(len(shades) / columns) * (height + GAP) - GAP / 2, -GAP / 2)


@styled
def plot_dead_channels(dead: DeadChannels | Mapping[str, DeadChannels]):
    """Draws the share of dead channels in each layer, one panel for each model.

    Args:
        dead: A `DeadChannels`, or a dict from the name of a model to its `DeadChannels`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    models = dead if isinstance(dead, Mapping) else {"": dead}
    most = max(len(value.rows) for value in models.values())
    figure = new_figure(0.8 + 0.27 * most)
    panels = figure.subplots(1, len(models), sharex=True, squeeze=False)[0]
    for axis, (name, value) in zip(panels, models.items(), strict=True):
        left = np.zeros(len(value.rows))
        for kind, (color, hatch) in KINDS.items():
            share = np.array([100 * row[kind] / row["channels"] for row in value.rows])
            look = {"color": color, "hatch": hatch, "label": kind}
            axis.barh(range(len(left)), share, left=left, **look)
            left += share
        counts = [f"{row['dead']} of {row['channels']}" for row in value.rows]
        axis.bar_label(axis.containers[-1], counts, padding=4, fontsize=8, color="#333333")
        axis.set_yticks(range(len(left)), [row["layer"] for row in value.rows])
        axis.set_ylim(most - 0.4, -0.6)
        axis.set_xlim(0, None)
        axis.tick_params(left=False)
        axis.grid(axis="x")
        axis.set_xlabel("dead channels (%)")
        axis.set_title(name)
    # Room for the counts beside the bars, and a scale that does not blow up nothing.
    panels[0].set_xlim(0, max(5.0, 1.25 * panels[0].get_xlim()[1]))
    panels[-1].legend(loc="lower right")
    return figure
