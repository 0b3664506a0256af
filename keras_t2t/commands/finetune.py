"""`keras-t2t finetune`."""

import functools

from keras_t2t.commands import train

parse = functools.partial(train.parse, default_recipe="finetune")
named_options = train.named_options


def run(recipe, options, out):
    """Train a pretrained model on other images: `train` with another recipe."""
    return train.run(recipe, options, out)
