"""The names of classes, part of the package: no download stands before a readable prediction."""

import functools
from importlib import resources

import keras
import numpy as np

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


def class_names(labels):
    """The classes in the order of a classifier's outputs.

    Args:
        labels: `"imagenet"`, `"cifar10"`, `"cifar100"` (the fine labels), or the names of your own
            classes in order.

    Returns:
        A list of (class id, name), both strings. ImageNet's ids and names are those that
        `keras.applications` gives, `("n01440764", "tench")`; the id of other classes is the index.

    Raises:
        ValueError: If `labels` is a string that names no list.
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
    return [(str(index), name) for index, name in enumerate(labels)]


def decode_predictions(preds, top=5, labels="imagenet"):
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
    names = class_names(labels)
    preds = keras.ops.convert_to_numpy(preds)
    if preds.ndim != 2 or preds.shape[1] != len(names):
        raise ValueError(
            f"preds: expected shape (batch, {len(names)}), as many classes as labels, "
            f"got {preds.shape}"
        )
    if top < 1:
        raise ValueError(f"top: expected at least 1, got {top}")
    best = np.argsort(-preds, axis=1, kind="stable")[:, :top]
    return [
        [(*names[index], float(scores[index])) for index in order]
        for scores, order in zip(preds, best, strict=True)
    ]


@functools.cache
def _imagenet():
    text = resources.files(__package__).joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(tuple(line.split()) for line in text.splitlines() if not line.startswith("#"))
