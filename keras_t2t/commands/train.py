"""`keras-t2t train`: the options are the fields of `Options`, `Recipe` and its two parts."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import yaml

from keras_t2t.commands.console import load
from keras_t2t.commands.models import check_data
from keras_t2t.commands.options import (
    Option,
    Parser,
    add_option,
    hyphenated,
    options_of,
    read,
)
from keras_t2t.data.augment import Augmentation
from keras_t2t.limits import load_yaml
from keras_t2t.models.variants import list_variants
from keras_t2t.preprocessing import Preprocessing
from keras_t2t.training.options import Options
from keras_t2t.training.recipe import RECIPES, Recipe, find_recipe, plain
from keras_t2t.validation import one_of

PARTS = {"preprocessing": Preprocessing, "augmentation": Augmentation}
# `--model.depth 2` sets one item of these.
ITEMS = {"model": Any, "part_rates": float}
GROUPS = {
    "run": "recipe out",
    "data": "data data_dir manual_dir bad_images batch_size preprocessing",
    "model": "variant model pooling initial_weights weights frozen precision seed",
    "optimisation": "epochs optimizer learning_rate rate_per_images weight_decay warmup_epochs "
    "warmup_rate final_rate cooldown_epochs rate_every_step clip_norm accumulation_steps ema "
    "ema_warmup part_rates share_final_rate layer_decay",
    "augmentation": "augmentation",
    "devices": "strategy devices coordinator num_hosts host_id",
    "checkpoints and logs": "checkpoint_minutes keep_checkpoints tensorboard",
}


def run(recipe: Recipe, options: dict[str, Any], out: str) -> int:
    """Train a model by a recipe, or go on with a training that was interrupted.

    Returns:
        The exit code: 0, or 128 and the signal's number if the training was interrupted.
    """
    check_data(options["data"])
    load("keras", "tensorflow")
    from keras_t2t.training.loop import TrainingInterrupted
    from keras_t2t.training.trainer import MODEL_FILE, train

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


def parse(parser: Parser, argv: list[str], default_recipe: str = "published") -> dict[str, Any]:
    """The arguments of `run`: the recipe that `--recipe` names, with what other options change."""
    argv = hyphenated(_expanded(argv))
    chooser = Parser(add_help=False, allow_abbrev=False)
    chooser.add_argument("--recipe", default=default_recipe)
    chooser.add_argument("--variant")
    chosen, _ = chooser.parse_known_args(argv)
    default = find_recipe(chosen.recipe, None if chosen.variant == "null" else chosen.variant)
    _add_options(parser, default_recipe, default)
    argv, items = _without_items(argv)
    values = vars(parser.parse_args(argv))

    values["variant"] = values["variant"] or None
    for name, changed in items.items():
        values[name] = {**values[name], **changed}
    for part, kind in PARTS.items():
        try:
            values[part] = kind(**{name: values[f"{part}.{name}"] for name in options_of(kind)})
        except ValueError as error:
            raise ValueError(f"{part}.{error}") from error
    recipe = Recipe(**{name: values[name] for name in options_of(Recipe)})
    if recipe.variant is not None:
        one_of(recipe.variant, "variant", list_variants())
    options = {name: values[name] for name in options_of(Options)}
    if values["print_config"] is not None:
        shown = {"recipe": chosen.recipe, "out": values["out"], **options, **plain(recipe)}
        usual = {"recipe": default_recipe, "out": None, **vars(Options()), **plain(default)}
        skipped = {"skip_default": usual.items(), "skip_unset": [(name, None) for name in shown]}
        skipped = skipped.get(values["print_config"], ())
        shown = {name: value for name, value in shown.items() if (name, value) not in skipped}
        print(yaml.safe_dump(shown, sort_keys=False), end="")
        parser.exit()
    missing = [f"--{name}" for name in ("data", "out") if values[name] is None]
    if missing:
        raise ValueError(f"the following arguments are required: {', '.join(missing)}")
    Options(**options)
    return {"recipe": recipe, "options": options, "out": values["out"]}


def named_options(default_recipe: str = "published") -> dict[str, Option]:
    """All options but those that print or read many of them, by the names of the fields."""
    recipes = f"{', '.join(RECIPES)}, or the recipe.yaml of a run. Other options change it."
    data = "tfds:NAME, a prepared TFDS folder, a folder with train/ and val/, or one of IDX files."
    found = {
        "recipe": Option("recipe", str, default_recipe, recipes),
        "out": Option("out", str, None, "Folder of the run, resumed if it exists. (required)"),
        **options_of(Options),
        **options_of(Recipe),
        "data": Option("data", str, None, data + " (required)"),
    }
    for part, kind in PARTS.items():
        for name, option in options_of(kind).items():
            found[f"{part}.{name}"] = option._replace(name=f"{part}.{name}")
    return found


def _add_options(parser, default_recipe, recipe):
    """Adds all options, in groups; those of the recipe with its values as defaults."""
    parser.allow_abbrev = False
    parser.usage = "%(prog)s --data DATA --out OUT [OPTION ...]"
    known = named_options(default_recipe)
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for option in [known[name] for name in names.split()]:
            value = getattr(recipe, option.name, option.default)
            if option.name not in PARTS:
                add_option(group, option._replace(default=value))
                continue
            for name in options_of(PARTS[option.name]):
                part = known[f"{option.name}.{name}"]
                add_option(group, part._replace(default=getattr(value, name)))
    parser.add_argument("--config", metavar="FILE", help="YAML file of any of these options.")
    parser.add_argument(
        "--print-config",
        choices=("all", "skip_default", "skip_unset"),
        nargs="?",
        const="all",
        help="Print all options as YAML, or without defaults or nulls, and stop.",
    )


def _expanded(argv):
    """The command line with the content of a mapping as options, in place of the mapping.

    That is the file of `--config`, or `--augmentation '{"mixup": 0.2}'`.
    """
    found, words = [], iter(argv)
    for word in words:
        option, equals, text = word.partition("=")
        if option not in ("--config", *(f"--{part}" for part in PARTS)):
            found.append(word)
            continue
        text = text if equals else next(words, "")
        inline = text.lstrip().startswith("{")
        if not inline and not Path(text).is_file():
            raise FileNotFoundError(f"{option}: there is no file {text}")
        values = load_yaml(text if inline else Path(text).read_bytes(), option)
        if not isinstance(values, dict) or "config" in values:
            raise ValueError(
                f"{option}: expected a mapping of options in YAML, without config, got {text}"
            )
        prefix = "" if option == "--config" else option.removeprefix("--") + "."
        texts = {
            key: item if isinstance(item, str) else json.dumps(item) for key, item in values.items()
        }
        found += _expanded([f"--{prefix}{key}={item}" for key, item in texts.items()])
    return found


def _without_items(argv):
    """The command line without `--model.depth 2` and the like, and what these say."""
    found, items, words = [], {name: {} for name in ITEMS}, iter(argv)
    for word in words:
        option, equals, text = word.partition("=")
        name, dot, key = option.replace("-", "_").removeprefix("__").partition(".")
        if not word.startswith("--") or name not in ITEMS:
            found.append(word)
        elif dot:
            items[name][key] = read(text if equals else next(words, ""), ITEMS[name])
        else:  # the whole, in place of the items before it
            items[name] = {}
            found.append(word)
    return found, items
