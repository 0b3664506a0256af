"""`keras-t2t train` and `finetune`: the options are the fields of the dataclasses."""

import argparse
import dataclasses
import signal
import sys
from pathlib import Path

import jsonargparse

from keras_t2t.data.augment import Augmentation
from keras_t2t.preprocessing import Preprocessing
from keras_t2t.training.loop import TrainingInterrupted
from keras_t2t.training.options import Options
from keras_t2t.training.recipe import RECIPES, Recipe, find_recipe
from keras_t2t.training.trainer import MODEL_FILE, train


def run(arguments, default_recipe, command):
    """Trains as the arguments of a command line tell.

    Args:
        arguments: List of strings.
        default_recipe: String, a key of `RECIPES`.
        command: String, what the user typed ahead of them.

    Returns:
        The exit code: 0, or 128 and the signal's number if the training was interrupted.

    Raises:
        ValueError: If an argument is wrong, and as `train`.
        OSError: As `train`.
    """
    recipe, options, out = parse(arguments, default_recipe, command)
    try:
        verbose = 1 if sys.stdout.isatty() else 2
        _, history = train(recipe, options.pop("data"), out, verbose=verbose, **options)
    except TrainingInterrupted as stopped:
        print(f"\nStopped by {stopped}. A checkpoint is saved in {out}: run the same command again")
        print(f"to go on from there. The model so far is {Path(out) / MODEL_FILE}.")
        return 128 + signal.Signals[str(stopped)]
    last = history[-1]
    print(f"\n{'':16}{'top-1':>8}{'top-5':>8}")
    for prefix, name in (("val_", "trained weights"), ("ema_val_", "averaged")):
        if prefix + "top1" in last:
            print(f"{name:16}{last[prefix + 'top1']:8.2%}{last[prefix + 'top5']:8.2%}")
    print(f"Models, log and recipe are in {out}.")
    return 0


def parse(arguments, default_recipe, command):
    """Returns the `Recipe`, the fields of `Options` as a dictionary, and the folder."""
    arguments = [_underscored(argument) for argument in arguments]
    parser = _parser(default_recipe, command)
    # Which recipe it is, and of which variant, may stand in a configuration file too; only then are
    # the defaults of all other options known.
    parser.set_defaults(variant="")
    chosen = _parsed(parser, arguments)
    recipe = find_recipe(chosen["recipe"], chosen["variant"])
    parser.set_defaults(_plain_fields(recipe))
    values = _parsed(parser, arguments)
    missing = [f"--{name}" for name in ("data", "out") if values[name] is None]
    if missing:
        raise ValueError(f"the following arguments are required: {', '.join(missing)}")
    fields = {field.name: values[field.name] for field in dataclasses.fields(Recipe)}
    fields["preprocessing"] = Preprocessing(**fields["preprocessing"])
    fields["augmentation"] = Augmentation(**fields["augmentation"])
    options = {field.name: values[field.name] for field in dataclasses.fields(Options)}
    return Recipe(**fields), options, values["out"]


def _parser(default_recipe, command):
    parser = jsonargparse.ArgumentParser(prog=command, exit_on_error=False, allow_abbrev=False)
    parser.add_argument(
        "--recipe",
        default=default_recipe,
        help=f"{', '.join(RECIPES)}, or the recipe.yaml of a run; other options change it",
    )
    parser.add_argument("--config", action="config", help="YAML file of any of these options")
    parser.add_argument("--out", type=str, help="folder of the run, gone on with if it exists")
    parser.add_argument("--data", type=str, help=_data_help())
    parser.add_class_arguments(Options, skip={"data"})
    parser.add_class_arguments(Recipe)
    return parser


def _parsed(parser, arguments):
    try:
        return parser.parse_args(arguments).as_dict()
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from error


def _underscored(argument):
    """`--batch-size=8` as `--batch_size=8`: both spellings are good."""
    name, equals, value = argument.partition("=")
    return (
        name.replace("-", "_").replace("__", "--", 1) + equals + value
        if (argument.startswith("--"))
        else argument
    )


def _plain_fields(recipe):
    return {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)} | {
        "preprocessing": dataclasses.asdict(recipe.preprocessing),
        "augmentation": dataclasses.asdict(recipe.augmentation),
    }


def _data_help():
    return "tfds:NAME, a prepared TFDS folder, a folder with train/ and val/, or one of IDX files"
