"""The time of an image against its size."""

from keras_t2t.inspection.plot_style import BLUE, GREEN, ORANGE, RED, new_figure, styled

COLORS = (BLUE, ORANGE, GREEN, RED)
KEYS = ("variant", "mode", "runtime", "batch", "dtype", "jit", "environment", "folder")
TITLES = {"t2t_vit": "whole network", "stem": "stem: all before the encoder"}


@styled
def plot(rows):
    """Draws milliseconds an image against pixels, the whole network beside its stem.

    Args:
        rows: Rows of figures as `benchmark.py` measures them.

    Returns:
        A `matplotlib.figure.Figure`; both scales logarithmic.
    """
    figure = new_figure(4.2)
    networks = [name for name in TITLES if any(row["network"] == name for row in rows)]
    panels = figure.subplots(1, len(networks), sharey=True, squeeze=False)[0]
    for axis, network in zip(panels, networks, strict=True):
        lines = {}
        for row in rows:
            if row["network"] == network:
                key = tuple(row.get(name) for name in KEYS)
                lines.setdefault(key, []).append(
                    (row["image_size"], 1000 / row["images_per_second"])
                )
        # Of the others, a label names those in which the lines differ.
        told = [i for i in range(4, len(KEYS)) if len({key[i] for key in lines}) > 1]
        for index, (key, points) in enumerate(lines.items()):
            sizes, times = zip(*sorted(points), strict=True)
            color = COLORS[index % len(COLORS)]
            pixels = [size**2 for size in sizes]
            label = "{}, {}, {}, batch {}".format(*key[:4])
            label += "".join(f", {KEYS[i]} {key[i]}" for i in told)
            axis.plot(pixels, times, marker="o", color=color, label=label)
            linear = [times[0] * count / pixels[0] for count in pixels]
            axis.plot(pixels, linear, linestyle=":", linewidth=1, color=color)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.minorticks_off()
        axis.set_xticks(pixels, [f"{size}²" for size in sizes])
        axis.set_title(TITLES[network])
        axis.set_xlabel("pixels; dotted: in proportion to them")
        axis.grid(True)
    panels[0].set_ylabel("ms an image")
    panels[0].legend()
    return figure
