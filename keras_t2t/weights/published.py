"""The published weights: one table of where each file is, how to check it, what images it needs."""

import os
from dataclasses import dataclass

BASE_ADDRESS = "https://github.com/yitu-opensource/T2T-ViT/releases/download/main"
BASE_ADDRESS_VARIABLE = "KERAS_T2T_WEIGHTS_URL"


@dataclass(frozen=True)
class PublishedWeights:
    """One published file.

    Attributes:
        variant: str, published name of the variant, such as `"t2t_vit_14"`.
        weights: str, the name that `weights=` takes, such as `"imagenet"`.
        filename: str, name of the file as published.
        top1: float, top-1 accuracy in percent, as published.
        image_size: int, side of the square input in pixels.
        classes: int, rows of the head.
        mean: tuple of three floats, of RGB in [0, 1].
        std: tuple of three floats, likewise.
        crop_fraction: float or None, side of the centre crop divided by the shorter side of the
            resized image; None resizes straight to the size, without a crop.
        interpolation: str, how images are resized, `"bicubic"` or `"bilinear"`.
        remeasured: float or None, top-1 in percent as measured by others.
        size: int or None, bytes, where known.
        sha384: str or None, hexadecimal SHA-384, where known.
        tested: bool, whether the keys of the file are known, so that a file of the same keys is
            tested; False means that loading it is a best effort.
    """

    variant: str
    weights: str
    filename: str
    top1: float
    image_size: int
    classes: int
    mean: tuple
    std: tuple
    crop_fraction: float | None
    interpolation: str
    remeasured: float | None = None
    size: int | None = None
    sha384: str | None = None
    tested: bool = True


# Evaluation preprocessing: main.py (timm's defaults) for ImageNet, transfer_learning.py for CIFAR.
_IMAGENET = {
    "image_size": 224,
    "classes": 1000,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_fraction": 0.9,
    "interpolation": "bicubic",
}
_IMAGENET_384 = {**_IMAGENET, "image_size": 384}
_CIFAR10 = {
    "image_size": 224,
    "classes": 10,
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2023, 0.1994, 0.2010),
    "crop_fraction": None,
    "interpolation": "bilinear",
}
_CIFAR100 = {**_CIFAR10, "classes": 100}


def _row(variant, weights, filename, top1, remeasured, images, **known):
    return PublishedWeights(
        variant, weights, filename, top1, remeasured=remeasured, **images, **known
    )


# File names and top-1: README of the published implementation. Remeasured top-1: timm pull
# request 2364. Size and SHA-384: Open Model Zoo, which has them of one file only.
PUBLISHED = (
    _row("t2t_vit_7", "imagenet", "71.7_T2T_ViT_7.pth.tar", 71.7, 71.676, _IMAGENET),
    _row("t2t_vit_10", "imagenet", "75.2_T2T_ViT_10.pth.tar", 75.2, 75.150, _IMAGENET),
    _row("t2t_vit_12", "imagenet", "76.5_T2T_ViT_12.pth.tar", 76.5, 76.480, _IMAGENET),
    _row(
        *("t2t_vit_14", "imagenet", "81.5_T2T_ViT_14.pth.tar", 81.5, 81.500, _IMAGENET),
        size=86_212_823,
        sha384="98c8ae06a1e9997f3e83ad2dfbac49985bf7bd7723eb64e4b8462338163be026"
        "57998f0bd9f8997367417003caeaf7a1",
    ),
    _row("t2t_vit_19", "imagenet", "81.9_T2T_ViT_19.pth.tar", 81.9, 81.932, _IMAGENET),
    _row("t2t_vit_24", "imagenet", "82.3_T2T_ViT_24.pth.tar", 82.3, 82.276, _IMAGENET),
    _row("t2t_vit_t_14", "imagenet", "81.7_T2T_ViTt_14.pth.tar", 81.7, 81.688, _IMAGENET),
    _row("t2t_vit_t_19", "imagenet", "82.4_T2T_ViTt_19.pth.tar", 82.4, 82.442, _IMAGENET),
    _row("t2t_vit_t_24", "imagenet", "82.6_T2T_ViTt_24.pth.tar", 82.6, 82.554, _IMAGENET),
    _row("t2t_vit_14", "imagenet384", "83.3_T2T_ViT_14.pth.tar", 83.3, None, _IMAGENET_384),
    _row(
        *("t2t_vit_24", "imagenet_token_labeling", "84.2_T2T_ViT_24.pth.tar"),
        *(84.2, None, _IMAGENET),
        tested=False,
    ),
    _row("t2t_vit_14", "cifar10", "cifar10_t2t-vit_14_98.3.pth", 98.3, None, _CIFAR10),
    _row("t2t_vit_19", "cifar10", "cifar10_t2t-vit_19_98.4.pth", 98.4, None, _CIFAR10),
    # "cirfar": the file is published under this name.
    _row("t2t_vit_14", "cifar100", "cirfar100_t2t-vit-14_88.4.pth", 88.4, None, _CIFAR100),
    _row("t2t_vit_19", "cifar100", "cifar100_t2t-vit-19_89.0.pth", 89.0, None, _CIFAR100),
)


def find(variant, weights):
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
    rows = [row for row in PUBLISHED if row.variant == variant]
    for row in rows:
        if row.weights == weights:
            return row
    if not rows:
        variants = ", ".join(dict.fromkeys(row.variant for row in PUBLISHED))
        raise ValueError(
            f"No weights are published for variant={variant!r}, so weights={weights!r} cannot be "
            f"loaded. Weights are published for {variants}."
        )
    names = ", ".join(repr(row.weights) for row in rows)
    raise ValueError(
        f"weights={weights!r} is not published for {variant}. Expected {names}, the path of an "
        "existing file, or None."
    )


def address(entry):
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
