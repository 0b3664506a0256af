"""One image through one model, in pictures: PNG files and a page that holds them all."""

import base64
import importlib.resources
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

import keras
import numpy as np
from PIL import Image

from keras_t2t.extras import require
from keras_t2t.files import refuse_existing, replacing
from keras_t2t.inference.predict import predict_images
from keras_t2t.inspection.attention_maps import (
    attention_maps,
    attention_rollout,
    class_token_attention,
    on_grid,
)
from keras_t2t.inspection.attention_plots import plot_attention
from keras_t2t.inspection.complexity import complexity
from keras_t2t.inspection.dead_channels import dead_channels
from keras_t2t.inspection.feature_maps import feature_maps
from keras_t2t.inspection.feature_plots import plot_dead_channels, plot_feature_maps
from keras_t2t.layers import TokenPooling
from keras_t2t.models.graph import encoder_blocks, t2t_blocks, token_grid
from keras_t2t.preprocessing_layer import model_preprocessing

PICTURES = ("attention", "rollout", "heads", "stages", "feature_maps", "dead_channels")
FILES = ("report.html", *(f"{name}.png" for name in PICTURES))
# The query tokens of the T2T stages: at the centre and in the middle of each quarter.
QUERIES = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))


def visualize(
    model: keras.Model,
    images: Iterable[str | os.PathLike],
    folder: str | os.PathLike,
    labels: str | Sequence[str] | None = None,
    top: int = 5,
    overwrite: bool = False,
) -> Path:
    """Draws what a model makes of an image, as PNG files and one self-contained HTML page.

    Args:
        model: A model that `T2TViT` built, or one loaded, which carries its preprocessing (see
            `model_preprocessing`).
        images: Paths of image files. The first is drawn; dead channels are counted over all.
        folder: Where the files go, made if need be: `report.html`, `attention.png` (of the class
            token, by block), `rollout.png`, `heads.png` (of the last block), `stages.png` (of the
            T2T blocks, if there are any), `feature_maps.png` and `dead_channels.png`.
        labels: Names of the classes, as `class_names` takes them. `None`, the default, means those
            that the model carries, else ImageNet's for 1000 classes, else the indices.
        top: Int, how many classes the page names. Defaults to 5.
        overwrite: Bool, whether files of these names in `folder` may be replaced, or removed where
            this model has none. Defaults to `False`.

    Returns:
        `pathlib.Path` of the page.

    Raises:
        ValueError: If the model is no T2T-ViT or carries no preprocessing, there is no image, or
            one cannot be read.
        FileExistsError: If one of the files is there already and `overwrite` is `False`.
        NotADirectoryError: If `folder` is a file.
        ImportError: If matplotlib is not installed.
    """
    folder = Path(folder)
    check_folder(folder, overwrite)
    images = list(images)
    if not images:
        raise ValueError("images: expected at least one image file, got none")
    encoder_blocks(model)
    preprocessing = model_preprocessing(model)
    pixels = np.stack([preprocessing(image) for image in images])
    shown = np.clip(pixels[0] * preprocessing.std + preprocessing.mean, 0, 1)
    predictions = _predictions(model, images[0], labels, top)

    attention = attention_maps(model, pixels[:1], queries=QUERIES)
    maps = feature_maps(model, pixels)
    dead = dead_channels(maps)
    blocks = {block.name: attention[block.name][0].mean(axis=0) for block in encoder_blocks(model)}
    figures = {
        **_attention_figures(model, shown, attention, blocks),
        "feature_maps": plot_feature_maps(maps, dead, channels=12),
        "dead_channels": plot_dead_channels(dead),
    }
    contents = {
        f"{name}.png": _png(lambda file, figure=figure: figure.savefig(file, dpi=140))
        for name, figure in figures.items()
    }
    cost = complexity(model)
    height, width, channels = cost.input_shape
    page = {
        **dict.fromkeys((f"{name}_png" for name in PICTURES), ""),
        **{name.replace(".", "_"): _data_address(png) for name, png in contents.items()},
        "image_png": _data_address(_image_png(shown)),
        "model": escape(model.name),
        "image": escape(Path(images[0]).name),
        "scaling": "pixelated" if width < 100 else "auto",
        "size": f"{width} x {height}" + (" px, grey" if channels == 1 else " px"),
        "parameters": f"{cost.parameters / 1e6:.1f} M",
        "macs": f"{cost.macs / 1e9:.2f} G",
        "predictions": predictions,
        "stages_hidden": "" if "stages.png" in contents else "hidden",
        "counted": "this image alone" if len(images) == 1 else f"{len(images)} images",
        "dead_table": escape(dead.table()),
        "cost_table": escape(cost.table()),
        # Inside of a script, HTML still ends at a `</script>`.
        "explorer": json.dumps(_explorer(model, shown, blocks)).replace("<", r"\u003c"),
    }
    template = (
        importlib.resources.files("keras_t2t.inspection").joinpath("report.html").read_text("utf-8")
    )
    contents["report.html"] = Template(template).substitute(page).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with replacing(folder / name, overwrite) as temporary:
            temporary.write_bytes(content)
    for name in set(FILES) - set(contents):  # of an earlier model
        (folder / name).unlink(missing_ok=True)
    return folder / "report.html"


def check_folder(folder: str | os.PathLike, overwrite: bool, name: str = "folder") -> None:
    """Raises what `visualize` would before it looks at the model; `name` is the folder's."""
    folder = Path(folder)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{name}: expected a folder, but {there} is a file")
    for file in FILES:
        refuse_existing(folder / file, overwrite)
    require("plot", "matplotlib")


def _attention_figures(model, image, attention, blocks):
    """The figures of attention by name; `blocks` holds each block's mean over its heads."""
    heats = {
        name.replace("encoder_block_", "block "): on_grid(model, mean[0, 1:])
        for name, mean in blocks.items()
    }
    both = {
        "rollout": on_grid(model, attention_rollout(attention)[0, 0, 1:]),
        "last block": list(heats.values())[-1],
    }
    last = on_grid(model, class_token_attention(attention)[0])
    figures = {
        "attention": plot_attention(image, heats),
        "rollout": plot_attention(image, both, columns=3),
        "heads": plot_attention(image, {f"head {head}": heat for head, heat in enumerate(last)}),
    }
    stages, marks = {}, {}
    for block in t2t_blocks(model):
        rows, columns = block.grid
        for query, (place, heat) in enumerate(
            zip(QUERIES, attention[block.name][0, 0], strict=True)
        ):
            title = f"{rows} x {columns}, query {query}"
            stages[title], marks[title] = heat.reshape(rows, columns), place
    if stages:
        figures["stages"] = plot_attention(image, stages, marks=marks)
    return figures


def _predictions(model, path, labels, top):
    """The most probable classes as HTML; for a model without a head, a word on that."""
    if len(model.output_shape) != 2 or isinstance(model.layers[-1], TokenPooling):
        return "<p>The model has no classification head.</p>"
    (result,) = predict_images(model, [path], top, labels)
    return "\n".join(
        f"<li><span>{escape(line['name'].replace('_', ' '))}</span>"
        f"<meter value='{line['probability']:.4f}'></meter>"
        f"<b>{line['probability']:.1%}</b></li>"
        for line in result["predictions"]
    )


def _explorer(model, image, blocks):
    """What the page's script draws: the image, and each block's attention in a byte a pair."""
    weights = np.stack(list(blocks.values()))[..., 1:]
    weights = np.round(255 * weights / weights.max(axis=-1, keepdims=True)).astype("uint8")
    rows, columns = token_grid(model)
    return {
        "blocks": [name.replace("encoder_block_", "block ") for name in blocks],
        "rows": rows,
        "columns": columns,
        "aspect": image.shape[0] / image.shape[1],
        "weights": base64.b64encode(weights.tobytes()).decode(),
    }


def _image_png(image):
    pixels = np.round(255 * image).astype("uint8")
    pixels = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return _png(lambda file: pixels.save(file, "PNG"))


def _png(save: Callable):
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def _data_address(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()
