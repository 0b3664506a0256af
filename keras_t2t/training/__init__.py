"""Training: recipes, and what carries them out."""

from keras_t2t.training.loop import LossNotFinite, TrainingInterrupted
from keras_t2t.training.optimizer import SGD, AdamW
from keras_t2t.training.options import Options
from keras_t2t.training.recipe import (
    Recipe,
    finetune,
    finetune_cifar,
    load_recipe,
    published,
    save_recipe,
    small,
)
from keras_t2t.training.schedule import WarmupCosine
from keras_t2t.training.trainer import train

__all__ = [
    "SGD",
    "AdamW",
    "LossNotFinite",
    "Options",
    "Recipe",
    "TrainingInterrupted",
    "WarmupCosine",
    "finetune",
    "finetune_cifar",
    "load_recipe",
    "published",
    "save_recipe",
    "small",
    "train",
]
