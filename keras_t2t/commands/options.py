"""Options of the commands, made from type hints, defaults and docstrings.

A parameter of a function or a field of a dataclass becomes an option: its hint says what may be
given, and its entry under `Args:` is the help.
"""

import argparse
import contextlib
import inspect
import json
import re
import types
import typing
from typing import Annotated, Any, Literal, NamedTuple

from keras_t2t.limits import load_yaml

# In `Annotated`, a number is the least value, and a string the help that several commands share.
Positive = Annotated[int, 1]

EXPECTED = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    tuple: "a list such as '[a, b]'",
    dict: "a mapping such as '{\"depth\": 2}'",
    Annotated: "an integer of at least 1",
}
METAVARS = {int: "N", float: "X", bool: "{true,false}", tuple: "'[...]'", dict: "'{...}'"}
METAVARS |= {Annotated: "N"}
REQUIRED = inspect.Parameter.empty


class Parser(argparse.ArgumentParser):
    """Leaves it to `main` to report errors."""

    def error(self, message):
        raise ValueError(message)


class Option(NamedTuple):
    """An option, or where `positional` says so an argument without a name."""

    name: str
    hint: Any
    default: Any
    help: str
    positional: bool = False


def options_of(described) -> dict[str, Option]:
    """The options that a function or a dataclass stands for, by the names of the parameters.

    Of a function, those that can be given by position are arguments.
    """
    args = re.search(r"^Args:\n(.*?)(\n\S|\Z)", inspect.getdoc(described) or "", re.S | re.M)
    entries = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", args[1] if args else "", re.M)
    texts = {name: " ".join(text.replace("`", "").split()) for name, text in entries}
    hints = typing.get_type_hints(described, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(described).parameters.items():
        # What is None in Python is null on the command line, as in YAML.
        hint, help = hints[name], re.sub(r"\bNone\b", "null", texts.get(name, ""))
        if typing.get_origin(hint) is Annotated and isinstance(hint.__metadata__[0], str):
            hint, help = hint.__origin__, hint.__metadata__[0]
        argument = parameter.kind is not parameter.KEYWORD_ONLY and inspect.isfunction(described)
        found[name] = Option(name, hint, parameter.default, help, argument)
    return found


def add_option(group, option: Option, flag: bool = False) -> None:
    """Adds an option to an argparse parser, or to a group of its options.

    Args:
        group: The parser or group.
        option: The `Option`.
        flag: Whether a bool takes no value: `--json`, not `--json true`.
    """
    name, hint, default, help, positional = option
    required, kind = default is REQUIRED, _kind(_members(hint)[0])
    settings = {} if positional else {"dest": name, "required": required}
    if flag and kind is bool:
        settings["action"] = "store_true"
    else:
        settings["default"] = None if required else default
        settings["metavar"] = METAVARS.get(kind, name.rpartition(".")[2].upper())
        if kind is list:  # of strings
            settings["metavar"] = settings["metavar"].removesuffix("S")
            settings["nargs"] = "*" if positional and not required else "+"
        else:
            settings["type"] = lambda text: read(text, hint)
        if not required and default not in (None, "", ()):
            help += f" (default: {_shown(default)})"
    if required and not positional:
        help += " (required)"
    flags = [name if positional else "--" + name.replace("_", "-")]
    group.add_argument(*flags, help=help.replace("%", "%%"), **settings)


def parse(parser: Parser, described, argv: list[str]) -> dict[str, Any]:
    """The arguments of a function that a command line gives."""
    for option in options_of(described).values():
        add_option(parser, option, flag=True)
    return vars(parser.parse_args(hyphenated(argv)))


def hyphenated(argv: list[str]) -> list[str]:
    """The command line with `--batch-size` for `--batch_size`, as 0.1.0 spelt it too."""
    names = [word.partition("=")[0] if word.startswith("--") else "" for word in argv]
    return [
        name.replace("_", "-") + word[len(name) :] for name, word in zip(names, argv, strict=True)
    ]


def read(text: str, hint) -> Any:
    """The value that a text stands for: a string as it is, anything else in YAML.

    Raises:
        argparse.ArgumentTypeError: If the hint wants something else.
    """
    members = _members(hint)
    if text == "null" and types.NoneType in members:
        return None
    if str in members:
        return text
    with contextlib.suppress(ValueError):
        value = load_yaml(text, "YAML")
        for member in members:
            with contextlib.suppress(TypeError):
                return _fitted(value, member)
    names = [EXPECTED.get(_kind(member)) or "".join(typing.get_args(member)) for member in members]
    raise argparse.ArgumentTypeError(f"expected {' or '.join(filter(None, names))}, got {text!r}")


def _fitted(value, hint):
    """`value`, from YAML, as the hint wants it; a TypeError if it is something else."""
    kind, parts = _kind(hint), typing.get_args(hint)
    if kind is Any or kind is Literal and value in parts:
        return value
    if kind is Annotated and _fitted(value, parts[0]) >= parts[1]:
        return value
    if kind is tuple and isinstance(value, list):
        return tuple(_fitted(item, parts[0]) for item in value)
    if kind is dict and isinstance(value, dict):
        return {str(key): _fitted(item, parts[1]) for key, item in value.items()}
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:  # A bool is no int here.
        return value
    raise TypeError


def _members(hint):
    """The types of a union, or the one type there is."""
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint) if union else (hint,)


def _kind(hint):
    return typing.get_origin(hint) or hint


def _shown(value):
    if isinstance(value, str):
        return value
    rounded = json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.5g}"))
    return json.dumps(rounded)
