"""Accuracy against cost, as figure 1 of the paper shows it."""

from keras_t2t.inspection.plot_style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    new_figure,
    styled,
)

# Of each family: colour, marker, line, and where the label stands from its point.
STYLES = {
    "T2T-ViT": (BLUE, "o", "-", (6, -10)),
    "T2T-ViT_t": (SKY, "s", "-", (-8, 7)),
    "ablation": (GREEN, "P", "none", (6, -10)),
    "ViT": (RED, "^", "--", (5, -13)),
    "ResNet": (GREY, "v", ":", (7, -4)),
    "ResNet*": (ORANGE, "D", ":", (6, 4)),
    "MobileNet*": (PURPLE, "X", "none", (7, -4)),
}
# What the stars behind names mean.
NOTE = "* trained by its authors with T2T-ViT's recipe."


@styled
def plot_complexity(rows):
    """Draws accuracy against MACs and against parameters, as figure 1 of the paper does.

    Args:
        rows: Sequence of `Published` rows.

    Returns:
        A `matplotlib.figure.Figure`. Logarithmic scales, so that ViT-L/16 fits.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    figure = new_figure(5.2)
    axes = figure.subplots(1, 2, sharey=True)
    for axis, quantity, label in zip(
        axes, ("macs", "parameters"), ("MACs (G)", "parameters (M)"), strict=True
    ):
        for family, (color, marker, line, _) in STYLES.items():
            members = [row for row in rows if row.family == family]
            x, y = [getattr(row, quantity) for row in members], [row.top1 for row in members]
            if members:
                axis.plot(
                    x, y, linestyle=line, marker=marker, color=color, markersize=7, label=family
                )
        for row in rows:
            axis.annotate(
                row.name.removeprefix("t2t_vit_"),
                (getattr(row, quantity), row.top1),
                xytext=STYLES[row.family][3],
                textcoords="offset points",
                fontsize=8,
            )
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
