"""The published variants side by side: what they cost, and what was published of them."""

import os
from collections.abc import Iterable
from pathlib import Path

from keras_t2t.extras import require
from keras_t2t.files import refuse_existing, replacing
from keras_t2t.inspection.complexity import complexity
from keras_t2t.inspection.complexity_plot import plot_complexity
from keras_t2t.inspection.published import OTHERS, VARIANTS
from keras_t2t.inspection.text import text_table


def summary_table(names: Iterable[str] | None = None) -> str:
    """Parameters, MACs and published accuracy of variants at 224 px, as text.

    Args:
        names: Published names of variants. `None`, the default, means all.

    Returns:
        String, a line for each variant. The column "off by" says how far the counted MACs are from
        the published figure, unless they round to it.

    Raises:
        ValueError: If a name is unknown.
    """
    published = {row.name: row for row in VARIANTS}
    rows = []
    for name in names or published:
        if name not in published:
            raise ValueError(f"names: expected some of {', '.join(published)}, got {name!r}")
        counts, known = complexity(name), published[name]
        macs = counts.macs / 1e9
        agrees = round(macs, 1) == known.macs
        rows.append(
            {
                "variant": name,
                "parameters (M)": f"{counts.parameters / 1e6:.2f}",
                "dense MACs (G)": f"{counts.dense_macs / 1e9:.3f}",
                "MACs (G)": f"{macs:.3f}",
                "published MACs": f"{known.macs:.1f}",
                "off by": "" if agrees else f"{macs / known.macs - 1:+.1%}",
                "published top-1": f"{known.top1:.1f}",
                "published in": known.source,
            }
        )
    return text_table(rows)


def save_figure(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Draws accuracy against MACs and parameters, ViT and ResNet beside T2T-ViT, all as published.

    Args:
        path: File that ends in `.png`, `.svg` or `.pdf`.
        overwrite: Bool, whether the file may be replaced. Defaults to `False`.

    Raises:
        ValueError: If the ending is another.
        FileExistsError: If the file exists and `overwrite` is `False`.
        OSError: If it cannot be written.
        ImportError: If matplotlib is not installed.

    Source: figure 1 of the paper.
    """
    check_figure(path, overwrite)
    figure = plot_complexity([row for row in (*VARIANTS, *OTHERS) if row.family != "ablation"])
    with replacing(Path(path), overwrite) as temporary:
        figure.savefig(temporary, dpi=140)


def check_figure(path: str | os.PathLike, overwrite: bool, name: str = "path") -> None:
    """Raises what `save_figure` would of its arguments; `name` is what they call the path."""
    if Path(path).suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{name}: expected a file that ends in .png, .svg or .pdf, got {path}")
    refuse_existing(Path(path), overwrite)
    require("plot", "matplotlib")
