"""The names of classes, part of the package: no download stands before a readable prediction."""

import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"

CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""


def class_names(labels: str | Sequence[str]) -> list[tuple[str, str]]:
    """The classes in the order of a classifier's outputs.

    Args:
        labels: `"imagenet"`, `"cifar10"`, `"cifar100"` (the fine labels), or the names of your own
            classes in order, among which ImageNet's classes may go by their ids.

    Returns:
        A list of (class id, name), both strings. ImageNet's ids and names are those that
        `keras.applications` gives, `("n01440764", "tench")`; the id of other classes is the index.

    Raises:
        ValueError: If `labels` is a string that names no list, or holds anything but strings.
    """
    if labels == "imagenet":
        return list(_imagenet())
    if isinstance(labels, str):
        if labels not in ("cifar10", "cifar100"):
            raise ValueError(
                'labels: expected "imagenet", "cifar10", "cifar100" or a list of names, '
                f"got {labels!r}"
            )
        labels = (CIFAR10 if labels == "cifar10" else CIFAR100).split()
    for name in labels:
        if not isinstance(name, str):
            raise ValueError(f"labels: expected names, all of them strings, got {name!r}")
    imagenet = dict(_imagenet())
    return [
        (name, imagenet[name]) if name in imagenet else (str(index), name)
        for index, name in enumerate(labels)
    ]


def carried_names(labels: str | Sequence[str]) -> tuple[str, ...]:
    """The names that a model carries, of which `class_names` makes the same as of `labels`."""
    classes = enumerate(class_names(labels))
    return tuple(name if key == str(index) else key for index, (key, name) in classes)


def decode_predictions(
    preds: Any, top: int = 5, labels: str | Sequence[str] = "imagenet"
) -> list[list[tuple[str, str, float]]]:
    """Names the classes of the highest scores, in the convention of `keras.applications`.

    Args:
        preds: Scores (batch, classes): a NumPy array or a tensor.
        top: Int, number of classes for each image, default 5.
        labels: As `class_names` takes them, default `"imagenet"`.

    Returns:
        For each image a list of (class id, name, score), highest first.

    Raises:
        ValueError: If `preds` has another shape, or `top` is below 1.
    """
    import keras  # Here, because commands read names of classes before they load Keras.

    names = class_names(labels)
    rows: Any = keras.ops.convert_to_numpy(preds)
    if rows.ndim != 2 or rows.shape[1] != len(names):
        raise ValueError(
            f"preds: expected shape (batch, {len(names)}), as many classes as labels, "
            f"got {rows.shape}"
        )
    if top < 1:
        raise ValueError(f"top: expected at least 1, got {top}")
    return [most_probable(row, names, top) for row in rows]


def most_probable(
    scores: Sequence[float], classes: Sequence[tuple[str, str]], top: int
) -> list[tuple[str, str, float]]:
    """The classes of the highest scores of an image: (class id, name, score), highest first."""
    best = sorted(range(len(classes)), key=lambda place: -scores[place])[:top]
    return [(*classes[place], float(scores[place])) for place in best]


@functools.cache
def _imagenet() -> tuple[tuple[str, str], ...]:
    text = resources.files("keras_t2t").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return tuple((key, name) for key, name in lines)
