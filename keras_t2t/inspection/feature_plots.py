"""Pictures of feature maps and of dead channels."""

import math

import numpy as np

from keras_t2t.inspection.plot_style import BLUE, GREEN, ORANGE, RED, WIDTH, new_figure, rgb, styled

# Colour and hatch of the kinds of dead channels.
KINDS = {"zero": (BLUE, ""), "constant": (ORANGE, "///"), "fixed": (GREEN, "...")}


@styled
def plot_feature_maps(maps, dead=None, index=0, channels=24, columns=12, image=None):
    """Draws channels of layers side by side, as figure 2 of the paper does.

    Each channel is drawn from black, its smallest value, to white, its largest; a channel of one
    value is grey. Dead channels have a red, crossed frame.

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
        axes[0].imshow(rgb(image), interpolation="nearest")
        axes[0].set_anchor("W")
        axes[0].set_title("image")
    for axis, (layer, value) in zip(axes[-len(maps) :], maps.items(), strict=True):
        value = np.moveaxis(value[index], -1, 0)[:channels]
        _draw_channels(axis, value, None if dead is None else dead.mask(layer), columns)
        height, width, total = maps[layer].shape[1:]
        title = f"{layer}: {height} x {width}, {len(value)} of {total} channels"
        if dead is not None:
            title += f", {int(dead.mask(layer).sum())} dead"
        axis.set_title(title)
    return figure


def _draw_channels(axis, value, dead, columns):
    """One picture of all channels, cheaper than an axis for each, with frames around the dead."""
    from matplotlib.patches import Rectangle

    low, high = (f(value, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    spread = high - low
    shades = np.where(spread > 0, (value - low) / np.where(spread > 0, spread, 1), 0.5)
    # Every map is one unit wide, and a tenth of it apart from the next.
    height, gap = value.shape[1] / value.shape[2], 0.1
    for place, shade in enumerate(shades):
        left, top = (place % columns) * (1 + gap), (place // columns) * (height + gap)
        right, bottom = left + 1, top + height
        axis.imshow(
            shade,
            cmap="gray",
            vmin=0,
            vmax=1,
            extent=(left, right, bottom, top),
            interpolation="nearest",
        )
        if dead is not None and dead[place]:
            axis.add_patch(
                Rectangle((left, top), 1, height, fill=False, edgecolor=RED, linewidth=2.5)
            )
            cross = (left, right, math.nan, left, right), (top, bottom, math.nan, bottom, top)
            axis.plot(*cross, color=RED)
    axis.set_xlim(-gap / 2, columns * (1 + gap) - gap / 2)
    axis.set_ylim(math.ceil(len(shades) / columns) * (height + gap) - gap / 2, -gap / 2)


@styled
def plot_dead_channels(dead):
    """Draws the share of dead channels in each layer, one panel for each model.

    Args:
        dead: A `DeadChannels`, or a dict from the name of a model to its `DeadChannels`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    models = dead if isinstance(dead, dict) else {"": dead}
    most = max(len(value.rows) for value in models.values())
    figure = new_figure(0.8 + 0.27 * most)
    panels = figure.subplots(1, len(models), sharex=True, squeeze=False)[0]
    for axis, (name, value) in zip(panels, models.items(), strict=True):
        rows = value.rows
        places = np.arange(len(rows))
        left = np.zeros(len(rows))
        for kind, (color, hatch) in KINDS.items():
            share = np.array([100 * row[kind] / row["channels"] for row in rows])
            axis.barh(places, share, left=left, color=color, hatch=hatch, label=kind)
            left += share
        for place, row in zip(places, rows, strict=True):
            axis.annotate(
                f"{row['dead']} of {row['channels']}",
                (100 * row["dead"] / row["channels"], place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color="#333333",
            )
        axis.set_yticks(places, [row["layer"] for row in rows])
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
