"""Accuracy against cost, as figure 1 of the paper shows it."""

from collections.abc import Sequence

from keras_t2t.inspection import plot_style as style
from keras_t2t.inspection.published import Published

# Of each family: colour, marker, line, and where the label stands from its point.
STYLES = {
    "T2T-ViT": (style.BLUE, "o", "-", (6, -10)),
    "T2T-ViT_t": (style.SKY, "s", "-", (-8, 7)),
    "ablation": (style.GREEN, "P", "none", (6, -10)),
    "ViT": (style.RED, "^", "--", (5, -13)),
    "ResNet": (style.GREY, "v", ":", (7, -4)),
    "ResNet*": (style.ORANGE, "D", ":", (6, 4)),
    "MobileNet*": (style.PURPLE, "X", "none", (7, -4)),
}
# What the stars in names mean.
NOTE = "* trained by its authors with T2T-ViT's recipe."
QUANTITIES = {"macs": "MACs (G)", "parameters": "parameters (M)"}


@style.styled
def plot_complexity(rows: Sequence[Published]):
    """Draws accuracy against MACs and against parameters, as figure 1 of the paper does.

    Args:
        rows: Sequence of `Published` rows.

    Returns:
        A `matplotlib.figure.Figure`. Logarithmic scales, so that ViT-L/16 fits.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = style.new_figure(5.2)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, (quantity, label) in zip(axes, QUANTITIES.items(), strict=True):
        for family, (color, marker, line, offset) in STYLES.items():
            members = [row for row in rows if row.family == family]
            if not members:
                continue
            x, y = [getattr(row, quantity) for row in members], [row.top1 for row in members]
            axis.plot(x, y, linestyle=line, marker=marker, color=color, markersize=7, label=family)
            place = {"xytext": offset, "textcoords": "offset points", "fontsize": 8}
            for row, point in zip(members, zip(x, y, strict=True), strict=True):
                axis.annotate(row.name.removeprefix("t2t_vit_"), point, **place)
        axis.set_xscale("log")
        axis.margins(x=0.12)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.grid()
        axis.set_xlabel(label)
    axes[0].set_ylabel("ImageNet top-1 (%), as published")
    axes[1].legend(loc="lower right")
    sources = dict.fromkeys(row.source for row in rows)
    figure.supxlabel(f"As published: {'; '.join(sources)}. {NOTE}", fontsize=8, color="#555555")
    return figure
