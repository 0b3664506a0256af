"""Recipes: every number of a training, and the published ones.

    keras-t2t train --recipe published --variant t2t_vit_14 --data tfds:imagenet2012 --out runs/14
    keras-t2t finetune --variant t2t_vit_14 --data photos --out runs/photos

The first should reach 81.5 % top-1 on ImageNet, on eight GPUs: the authors' figure, not ours.
"""

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from keras_t2t import validation
from keras_t2t.data.augment import Augmentation
from keras_t2t.files import replacing
from keras_t2t.limits import load_yaml
from keras_t2t.preprocessing import PREPROCESSING, Preprocessing


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained, and how. The defaults are the published recipe of T2T-ViT-14.

    Args:
        variant: Published name of the model, such as "t2t_vit_14". Without one, `model` describes
            it, on T2TViT's defaults.
        model: Further arguments of T2TViT. `--model '{"depth": 2}'` replaces all that the recipe
            has; `--model.depth 2` changes one of them.
        pooling: "token", the head reads the class token, as published; "avg", it reads the mean of
            the patch tokens, which learns sooner from few or small images.
        initial_weights: "published", drawn from Normal(0, 0.02); "glorot", which suits narrow
            models.
        weights: Weights to start from, except the head's: a published name such as "imagenet", or
            a file.
        precision: "float32", "mixed_bfloat16" or "mixed_float16".
        preprocessing: Image size, mean and standard deviation, and how evaluation resizes.
        augmentation: What training does to images and labels.
        epochs: Number of epochs in all.
        batch_size: Images per step, over all devices and hosts.
        seed: Seed of initial weights, order, augmentation, dropout and drop path.
        optimizer: "adamw", or "sgd" with momentum 0.9.
        learning_rate: Highest learning rate.
        rate_per_images: If given, the learning rate is meant for this many images per step, and is
            scaled in proportion to the batch size.
        weight_decay: For adamw decoupled, and not for biases, norms and the class token. For sgd
            coupled (L2), for all weights.
        warmup_epochs: Epochs in which the learning rate rises to its highest.
        warmup_rate: Learning rate of the first step.
        final_rate: Lowest learning rate.
        cooldown_epochs: Epochs at the final rate, at the end.
        rate_every_step: Whether the learning rate changes with every step, not every epoch.
        clip_norm: If given, gradients are scaled down to this global norm.
        accumulation_steps: Number of batches whose gradients are averaged before the weights
            change.
        ema: If given, decay of the moving average of the weights, which is evaluated too.
        ema_warmup: Whether this decay starts low, as short runs need.
        part_rates: Factors of the learning rate for parts of the model, by regular expressions for
            the paths of variables.
        share_final_rate: Whether all parts end at the final rate, not at their factor of it.
        layer_decay: If given, each encoder block has this factor of the next one's learning rate,
            in addition to the part's.
        frozen: Layers that are not trained, by regular expressions for their names.

    Raises:
        ValueError: If a value is out of range, or they do not fit each other.
    """

    variant: str | None = "t2t_vit_14"
    model: dict[str, Any] = dataclasses.field(default_factory=lambda: {"drop_path_rate": 0.1})
    pooling: str = "token"
    initial_weights: str = "published"
    weights: str | None = None
    precision: str = "float32"
    preprocessing: Preprocessing = Preprocessing()
    augmentation: Augmentation = Augmentation()
    epochs: int = 310
    batch_size: int = 512
    seed: int = 0
    optimizer: str = "adamw"
    learning_rate: float = 5e-4
    rate_per_images: int | None = None
    weight_decay: float = 0.05
    warmup_epochs: float = 10
    warmup_rate: float = 1e-6
    final_rate: float = 1e-5
    cooldown_epochs: int = 10
    rate_every_step: bool = False
    clip_norm: float | None = None
    accumulation_steps: int = 1
    ema: float | None = 0.99996
    ema_warmup: bool = False
    part_rates: dict[str, float] = dataclasses.field(default_factory=dict)
    share_final_rate: bool = False
    layer_decay: float | None = None
    frozen: tuple[str, ...] = ()

    def __post_init__(self):
        object.__setattr__(self, "frozen", tuple(self.frozen))  # YAML holds lists.
        check = functools.partial(validation.fields, self)
        for name, choices in _CHOICES.items():
            check(f"one of {', '.join(choices)}", choices.__contains__, name)
        counts = ("epochs", "batch_size", "accumulation_steps")
        check("a positive int", lambda value: isinstance(value, int) and value >= 1, *counts)
        at_least_0 = ("weight_decay", "warmup_epochs", "warmup_rate", "final_rate")
        check("at least 0", lambda value: value >= 0, *at_least_0, "cooldown_epochs")
        above_0 = ("learning_rate", "rate_per_images", "clip_norm")
        check("above 0", lambda value: value is None or value > 0, *above_0)
        between = ("ema", "layer_decay")
        check("a number between 0 and 1", lambda value: value is None or 0 < value < 1, *between)
        if self.epochs <= self.cooldown_epochs:
            raise ValueError(
                f"epochs: expected more than cooldown_epochs={self.cooldown_epochs}, "
                f"got {self.epochs}"
            )
        factors = list(self.part_rates.values())
        if not all(factor >= 0 for factor in factors):
            raise ValueError(f"part_rates: expected factors of at least 0, got {min(factors)!r}")
        for name in ("frozen", "part_rates"):
            for pattern in getattr(self, name):
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(
                        f"{name}: expected regular expressions, got {pattern!r} ({error})"
                    ) from error


_CHOICES = {
    "pooling": ("token", "avg"),
    "initial_weights": ("published", "glorot"),
    "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
    "optimizer": ("adamw", "sgd"),
}

# The augmentation without what ImageNet's adds to flips.
_FLIPS = Augmentation(
    crop_area=None, randaugment_draws=0, erasing=0.0, mixup=0.0, cutmix=0.0, label_smoothing=0.0
)


def published(variant: str = "t2t_vit_14") -> Recipe:
    """The published ImageNet recipe of a variant: 310 epochs, a global batch of 512.

    Source: README and `main.py` of the published implementation. For variants that the README
    gives no command for, that of T2T-ViT-14.
    """
    learning_rate, weight_decay = 5e-4, 0.05
    if variant in ("t2t_vit_7", "t2t_vit_10", "t2t_vit_12"):
        learning_rate, weight_decay = 1e-3, 0.03
    elif variant.endswith(("_19", "_24")):
        weight_decay = 0.065
    return Recipe(variant=variant, learning_rate=learning_rate, weight_decay=weight_decay)


def finetune_cifar(variant: str = "t2t_vit_14") -> Recipe:
    """The published transfer recipe, from ImageNet to CIFAR: 60 epochs of SGD.

    The head has the whole learning rate and all else a hundredth; the class token and the last norm
    are in neither group of the published code, and so stay as they are.

    Source: `transfer_learning.py` of the published implementation.
    """
    return dataclasses.replace(
        finetune(variant),
        preprocessing=PREPROCESSING["cifar10"],
        augmentation=dataclasses.replace(_FLIPS, interpolation="bilinear", padding=28),
        epochs=60,
        weight_decay=5e-4,
        frozen=("^class_token$", "^norm$"),
    )


def finetune(variant: str = "t2t_vit_14") -> Recipe:
    """The published transfer recipe for one's own photos, from ImageNet weights.

    As for CIFAR, but with random resized crops, ImageNet's preprocessing, all parts trained, and
    the weight decay that the authors advise for other data: 1e-5 to 5e-5.

    Source: README and `transfer_learning.py` of the published implementation.
    """
    return Recipe(
        variant=variant,
        model={},
        weights="imagenet",
        augmentation=dataclasses.replace(_FLIPS, crop_area=(0.25, 1.0)),
        epochs=30,
        batch_size=64,
        optimizer="sgd",
        learning_rate=0.05,
        weight_decay=5e-5,
        warmup_epochs=0,
        final_rate=2e-4,
        cooldown_epochs=0,
        rate_every_step=True,
        ema=None,
        part_rates={"^(?!head/)": 0.01},
        share_final_rate=True,
    )


def small() -> Recipe:
    """A small model for small grey images, such as Fashion-MNIST, in minutes on a CPU. Ours.

    28 x 28 pixels become 14 x 14 and then 7 x 7 tokens. The pixels are only divided by 255: a flat
    background that stays exactly 0 keeps two runtimes closer to each other.
    """
    return Recipe(
        variant=None,
        model={
            "soft_splits": [[5, 2, 2], [3, 2, 1]],
            "token_dim": 64,
            "embed_dim": 128,
            "depth": 4,
            "num_heads": 4,
            "mlp_ratio": 2.0,
            "performer_dropout_rate": 0.0,
            "drop_path_rate": 0.1,
        },
        pooling="avg",
        initial_weights="glorot",
        preprocessing=Preprocessing(28, 28, (0.0,), (1.0,), crop_fraction=None),
        augmentation=dataclasses.replace(_FLIPS, padding=2, erasing=0.25, label_smoothing=0.1),
        epochs=20,
        batch_size=128,
        learning_rate=2e-3,
        warmup_epochs=1,
        cooldown_epochs=0,
        rate_every_step=True,
        clip_norm=1.0,
        ema=0.999,
        ema_warmup=True,
    )


RECIPES: dict[str, Callable[..., Recipe]] = {
    recipe.__name__: recipe for recipe in (published, finetune, finetune_cifar, small)
}


def save_recipe(recipe: Recipe, path: str | os.PathLike) -> None:
    """Writes a recipe as YAML."""
    text = yaml.safe_dump(plain(recipe), sort_keys=False)
    with replacing(Path(path), overwrite=True) as temporary:
        temporary.write_text(text)


def load_recipe(path: str | os.PathLike) -> Recipe:
    """Reads a recipe that `save_recipe` wrote, or a run's `recipe.yaml`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no recipe; the message names what is wrong.
    """
    try:
        values = load_yaml(Path(path).read_bytes(), "YAML")
        missing = {"preprocessing", "augmentation"} - set(values or ())
        if missing:
            raise ValueError(f"without {' and '.join(sorted(missing))}")
        values["preprocessing"] = Preprocessing(**values["preprocessing"])
        values["augmentation"] = Augmentation(**values["augmentation"])
        return Recipe(**values)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: is not a recipe ({' '.join(str(error).split())})") from error


def find_recipe(name: str, variant: str | None = None) -> Recipe:
    """The recipe that an option `--recipe` names.

    Args:
        name: A key of `RECIPES`, or the path of a .yaml file that `save_recipe` wrote.
        variant: Published name of the model that a recipe of `RECIPES` is to be for. `None` or `""`
            means its own choice.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the name is neither, or there is a variant but the recipe is of a model of
            its own; or as `load_recipe`.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise FileNotFoundError(f"recipe: there is no file {name}")
        recipe = load_recipe(name)
    elif name not in RECIPES:
        raise ValueError(
            f"recipe: expected a .yaml file or one of {', '.join(RECIPES)}, got {name!r}"
        )
    elif name != "small" and variant:
        recipe = RECIPES[name](variant)
    else:
        recipe = RECIPES[name]()
    if variant and recipe.variant is None:
        raise ValueError(
            f"variant: expected none with recipe={name!r}, which has a model of its own"
        )
    return recipe


def plain(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe as YAML has them: nested dictionaries, and lists for tuples."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))
