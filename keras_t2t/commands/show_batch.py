"""`keras-t2t show-batch`."""

from pathlib import Path

from keras_t2t.commands.console import load
from keras_t2t.commands.models import check_data
from keras_t2t.commands.options import Positive
from keras_t2t.extras import require
from keras_t2t.files import replacing
from keras_t2t.training.recipe import find_recipe


def run(
    data: str,
    *,
    out: str,
    recipe: str = "published",
    images: Positive = 32,
    seed: int = 0,
    data_dir: str | None = None,
    manual_dir: str | None = None,
    force: bool = False,
) -> int:
    """Draw a batch as training would see it, with its labels.

    Args:
        data: A data set, tfds:NAME, a prepared TFDS folder or an image folder.
        out: The .png file to write.
        recipe: A name or a recipe.yaml.
        images: How many images.
        seed: Seed of the order and of all that is drawn.
        data_dir: With tfds:NAME, the folder of all TFDS data sets.
        manual_dir: With tfds:NAME, the folder of files that TFDS cannot download.
        force: Replace an existing OUT.
    """
    chosen = find_recipe(recipe)
    if not out.endswith(".png"):
        raise ValueError(f"out: expected a file that ends in .png, got {out}")
    check_data(data)
    require("plot", "matplotlib")  # before a data set is fetched
    load("tensorflow")
    from keras_t2t.data.show import show_batch
    from keras_t2t.data.sources import open_source

    source = open_source(data, "train", data_dir, manual_dir)
    with replacing(Path(out), force) as temporary:
        figure = show_batch(source, chosen.augmentation, chosen.preprocessing, images, seed)
        figure.savefig(temporary, dpi=120)
    print(out)
    return 0
