"""The published weights: one table of where each file is, what it holds and how to check it."""

import os
from dataclasses import dataclass
from pathlib import Path

from keras_t2t.class_names import carried_names
from keras_t2t.preprocessing import PREPROCESSING, Preprocessing

BASE_ADDRESS = "https://github.com/yitu-opensource/T2T-ViT/releases/download/main"
BASE_ADDRESS_VARIABLE = "KERAS_T2T_WEIGHTS_URL"
# Of the files that weights are read from and written to.
SUFFIXES = (".pth", ".pth.tar", ".safetensors", ".npz", ".weights.h5", ".keras")


def require_suffix(path: str | os.PathLike, name: str) -> None:
    """Raises a ValueError, which calls the path `name`, unless it is of a file of weights."""
    if not os.fspath(path).endswith(SUFFIXES):
        raise ValueError(f"`{name}` must end in {', '.join(SUFFIXES)}. Received: {path}")


@dataclass(frozen=True)
class PublishedWeights:
    """One published file, and what was published of the model in it.

    Attributes:
        variant: str, published name of the variant, such as `"t2t_vit_14"`.
        weights: str, the name that `weights=` takes, such as `"imagenet"`.
        filename: str, name of the file as published.
        top1: float, top-1 accuracy in percent, as published.
        remeasured: float or None, top-1 in percent as measured by others.
        parameters: float or None, millions, as published.
        macs: float or None, multiply-accumulates for one image, 1e9, as published.
        size: int or None, bytes, where known.
        sha384: str or None, hexadecimal SHA-384, where known.
        tested: bool, whether the keys of the file are known, so that a file of the same keys is
            tested; False means that loading it is a best effort.
    """

    variant: str
    weights: str
    filename: str
    top1: float
    remeasured: float | None = None
    parameters: float | None = None
    macs: float | None = None
    size: int | None = None
    sha384: str | None = None
    tested: bool = True

    @property
    def preprocessing(self) -> Preprocessing:
        """What the images were put through; its size is the model's."""
        return PREPROCESSING[self.weights]

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of its classes; `None` for ImageNet's, which any 1000 classes are taken for."""
        return carried_names(self.weights) if self.weights in ("cifar10", "cifar100") else None

    @property
    def classes(self) -> int:
        """What its head tells apart."""
        return len(self.class_names or range(1000))


def _imagenet(variant, filename, *figures, **known):
    return PublishedWeights(variant, "imagenet", filename, *figures, **known)


# File names, top-1, parameters and MACs: README of the published implementation. (For t2t_vit_t_19
# it has the later accuracy; the paper's table 3 gives 82.2.) Remeasured top-1: timm pull request
# 2426. Size and SHA-384: Open Model Zoo, which has them of one file only.
PUBLISHED = (
    _imagenet("t2t_vit_7", "71.7_T2T_ViT_7.pth.tar", 71.7, 71.676, 4.3, 1.1),
    _imagenet("t2t_vit_10", "75.2_T2T_ViT_10.pth.tar", 75.2, 75.150, 5.9, 1.5),
    _imagenet("t2t_vit_12", "76.5_T2T_ViT_12.pth.tar", 76.5, 76.480, 6.9, 1.8),
    _imagenet(
        *("t2t_vit_14", "81.5_T2T_ViT_14.pth.tar", 81.5, 81.500, 21.5, 4.8),
        size=86_212_823,
        sha384="98c8ae06a1e9997f3e83ad2dfbac49985bf7bd7723eb64e4b8462338163be026"
        "57998f0bd9f8997367417003caeaf7a1",
    ),
    _imagenet("t2t_vit_19", "81.9_T2T_ViT_19.pth.tar", 81.9, 81.932, 39.2, 8.5),
    _imagenet("t2t_vit_24", "82.3_T2T_ViT_24.pth.tar", 82.3, 82.276, 64.1, 13.8),
    _imagenet("t2t_vit_t_14", "81.7_T2T_ViTt_14.pth.tar", 81.7, 81.688, 21.5, 6.1),
    _imagenet("t2t_vit_t_19", "82.4_T2T_ViTt_19.pth.tar", 82.4, 82.442, 39.2, 9.8),
    _imagenet("t2t_vit_t_24", "82.6_T2T_ViTt_24.pth.tar", 82.6, 82.554, 64.1, 15.0),
    PublishedWeights("t2t_vit_14", "imagenet384", "83.3_T2T_ViT_14.pth.tar", 83.3),
    PublishedWeights(
        *("t2t_vit_24", "imagenet_token_labeling", "84.2_T2T_ViT_24.pth.tar", 84.2), tested=False
    ),
    PublishedWeights("t2t_vit_14", "cifar10", "cifar10_t2t-vit_14_98.3.pth", 98.3),
    PublishedWeights("t2t_vit_19", "cifar10", "cifar10_t2t-vit_19_98.4.pth", 98.4),
    # "cirfar": the file is published under this name.
    PublishedWeights("t2t_vit_14", "cifar100", "cirfar100_t2t-vit-14_88.4.pth", 88.4),
    PublishedWeights("t2t_vit_19", "cifar100", "cifar100_t2t-vit-19_89.0.pth", 89.0),
)


def find(variant: str, weights: str) -> PublishedWeights:
    """The row of one set of published weights.

    Args:
        variant: str, published name of the variant, such as `"t2t_vit_14"`.
        weights: str, such as `"imagenet"`, `"imagenet384"`, `"imagenet_token_labeling"`,
            `"cifar10"` or `"cifar100"`.

    Returns:
        A `PublishedWeights`.

    Raises:
        ValueError: nothing is published under this name for this variant; the message lists what
            is.
    """
    rows = {row.weights: row for row in PUBLISHED if row.variant == variant}
    if weights in rows:
        return rows[weights]
    if not rows:
        variants = ", ".join(dict.fromkeys(row.variant for row in PUBLISHED))
        raise ValueError(
            f"No weights are published for {variant}, so weights={weights!r} cannot be "
            f"loaded. Weights are published for {variants}."
        )
    raise ValueError(
        f"weights={weights!r} is not published for {variant}. Expected "
        f"{', '.join(map(repr, rows))}, the path of an existing file, or None."
    )


def published_as(path: str | os.PathLike) -> PublishedWeights | None:
    """The row of the published file that has a path's name, if there is one."""
    return next((row for row in PUBLISHED if row.filename == Path(path).name), None)


def address(entry: PublishedWeights) -> str:
    """Where the file of a `PublishedWeights` is fetched from.

    The environment variable `KERAS_T2T_WEIGHTS_URL` replaces the published address up to the file
    name, for a mirror (`https://mirror.example/t2t`) or a folder (`file:///srv/t2t`).

    Args:
        entry: `PublishedWeights`.

    Returns:
        str, a URL.

    Raises:
        ValueError: the variable holds something else than an http, https or file URL.
    """
    base = os.environ.get(BASE_ADDRESS_VARIABLE) or BASE_ADDRESS
    if not base.startswith(("https://", "http://", "file://")):
        raise ValueError(
            f"{BASE_ADDRESS_VARIABLE} is {base!r}. Expected a URL that starts with https://, "
            "http:// or file://."
        )
    return f"{base.rstrip('/')}/{entry.filename}"
