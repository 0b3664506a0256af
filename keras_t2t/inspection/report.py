"""One image through one model, in pictures: PNG files and a page that holds them all."""

import base64
import io
import json
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

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
from keras_t2t.inspection.report_page import PAGE
from keras_t2t.layers import TokenPooling
from keras_t2t.models.graph import encoder_blocks, t2t_blocks, token_grid
from keras_t2t.preprocessing_layer import model_preprocessing

PICTURES = ("attention", "rollout", "heads", "stages", "feature_maps", "dead_channels")
# Where the T2T stages are asked what they look at: the centre and the middle of each quarter.
QUERIES = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))


def visualize(model, images, folder, labels=None, top=5, overwrite=False):
    """Draws what a model makes of an image, as PNG files and one self-contained HTML page.

    Args:
        model: A model that `T2TViT` built, or one loaded, which carries its preprocessing (see
            `model_preprocessing`).
        images: Paths of image files. The first is drawn; dead channels are counted over all.
        folder: Where the files go, made if need be: `report.html`, `attention.png` (of the class
            token, by block), `rollout.png`, `heads.png` (of the last block), `stages.png` (of the
            T2T blocks, if there are any), `feature_maps.png` and `dead_channels.png`.
        labels: Names of the classes, as `class_names` takes them. `None`, the default, means
            ImageNet's for 1000 classes, else the indices.
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
    figures = _figures(model, shown, attention, maps, dead)
    contents = {f"{name}.png": _png(figure) for name, figure in figures.items()}
    contents["report.html"] = _page(
        model, Path(images[0]), shown, attention, dead, contents, predictions, len(pixels)
    ).encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        with replacing(folder / name, overwrite) as temporary:
            temporary.write_bytes(content)
    for name in _names():
        if name not in contents:  # of an earlier model
            (folder / name).unlink(missing_ok=True)
    return folder / "report.html"


def check_folder(folder, overwrite, name="folder"):
    """Raises what `visualize` would of its folder; `name` is what they call it."""
    folder = Path(folder)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{name}: expected a folder, but {there} is a file")
    for file in _names():
        refuse_existing(folder / file, overwrite)


def _names():
    return ["report.html", *(f"{name}.png" for name in PICTURES)]


def _figures(model, image, attention, maps, dead):
    rollout = on_grid(model, attention_rollout(attention)[0, 0, 1:])
    blocks = {
        block.name.replace("encoder_block_", "block "): on_grid(
            model, attention[block.name][0, :, 0, 1:].mean(axis=0)
        )
        for block in encoder_blocks(model)
    }
    last = blocks[list(blocks)[-1]]
    heads = {
        f"head {head}": heat
        for head, heat in enumerate(on_grid(model, class_token_attention(attention)[0]))
    }
    figures = {
        "attention": plot_attention(image, blocks),
        "rollout": plot_attention(image, {"rollout": rollout, "last block": last}, columns=3),
        "heads": plot_attention(image, heads),
        "feature_maps": plot_feature_maps(maps, dead, channels=12),
        "dead_channels": plot_dead_channels(dead),
    }
    stages = {
        f"{block.grid[0]} x {block.grid[1]}, query {query}": (place, rows.reshape(block.grid))
        for block in t2t_blocks(model)
        for query, (place, rows) in enumerate(
            zip(QUERIES, attention[block.name][0, 0], strict=True)
        )
    }
    if stages:
        figures["stages"] = plot_attention(
            image,
            {title: heat for title, (_, heat) in stages.items()},
            marks={title: place for title, (place, _) in stages.items()},
        )
    return figures


def _page(model, path, image, attention, dead, contents, predictions, count):
    cost = complexity(model)
    height, width, channels = cost.input_shape
    contents = {"image.png": _image_png(image), **contents}
    pictures = {
        name.replace(".", "_"): "data:image/png;base64," + base64.b64encode(content).decode()
        for name, content in contents.items()
    }
    images = "this image alone" if count == 1 else f"{count} images"
    return Template(PAGE).substitute(
        {name + "_png": "" for name in PICTURES}
        | pictures
        | {
            "model": escape(model.name),
            "image": escape(path.name),
            "scaling": "pixelated" if width < 100 else "auto",
            "size": f"{width} x {height}" + (" px, grey" if channels == 1 else " px"),
            "parameters": f"{cost.parameters / 1e6:.1f} M",
            "macs": f"{cost.macs / 1e9:.2f} G",
            "predictions": predictions,
            "stages_hidden": "" if "stages.png" in contents else "hidden",
            "counted": images,
            "dead_table": escape(dead.table()),
            "cost_table": escape(cost.table()),
            "explorer": json.dumps(_explorer(model, image, attention)),
        }
    )


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


def _explorer(model, image, attention):
    """What the page's script draws: the image, and each block's attention in a byte a pair."""
    blocks = encoder_blocks(model)
    weights = np.stack([attention[block.name][0].mean(axis=0) for block in blocks])
    weights = weights[..., 1:] / weights[..., 1:].max(axis=-1, keepdims=True)
    rows, columns = token_grid(model)
    return {
        "blocks": [block.name.replace("encoder_block_", "block ") for block in blocks],
        "rows": rows,
        "columns": columns,
        "aspect": image.shape[0] / image.shape[1],
        "weights": base64.b64encode(np.round(255 * weights).astype("uint8").tobytes()).decode(),
    }


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=140)
    return buffer.getvalue()


def _image_png(image):
    buffer = io.BytesIO()
    pixels = np.round(255 * image).astype("uint8")
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
