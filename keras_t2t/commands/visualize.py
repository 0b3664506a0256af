"""`keras-t2t visualize`."""

from pathlib import Path

from keras_t2t.commands import models
from keras_t2t.commands.console import load
from keras_t2t.commands.options import Positive


def run(
    images: list[str],
    *,
    model: models.Model,
    out: str,
    weights: models.Weights = None,
    top: Positive = 5,
    labels: models.Labels = None,
    force: bool = False,
) -> int:
    """Draw feature maps and attention of an image: PNG files and an HTML page.

    Args:
        images: Image files; the first is drawn, and dead channels are counted over all.
        out: Folder of the report.
        top: Classes to name.
        force: Replace existing files in OUT.
    """
    for image in images:
        if not Path(image).exists():
            raise FileNotFoundError(f"images: there is no file {image}")
    names = models.read_labels(labels)
    models.check_model(model, weights)
    load("keras")
    from keras_t2t.inspection.report import check_folder, visualize

    check_folder(out, force, "out")  # before a model is loaded
    opened = models.open_model(model, weights)
    print(visualize(opened, images, out, labels=names, top=top, overwrite=force))
    return 0
