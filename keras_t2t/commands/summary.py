"""`keras-t2t summary`."""

from keras_t2t.commands.console import load
from keras_t2t.progress import printable


def run(variants: list[str] | None = None, *, plot: str | None = None, force: bool = False) -> int:
    """Compare the variants: parameters, multiply-accumulates, published accuracy.

    Args:
        variants: Variants, such as t2t_vit_14 (default: all).
        plot: Draw accuracy against cost, ViT and ResNet beside it, to a .png, .svg or .pdf file.
        force: Replace the existing file of --plot.
    """
    from keras_t2t.models.variants import list_variants

    for name in variants or ():
        if name not in list_variants():
            raise ValueError(
                f"variants: expected some of {', '.join(list_variants())}, got {name!r}"
            )
    load("keras")
    from keras_t2t.inspection.summary import check_figure, save_figure, summary_table

    if plot:
        check_figure(plot, force, "plot")  # before all the counting
    table = summary_table(variants)
    if plot:
        save_figure(plot, overwrite=force)
    print(printable(table))
    return 0
