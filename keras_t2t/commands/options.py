"""Options of the commands, made from type hints, defaults and docstrings.

A parameter of a function or a field of a dataclass becomes an option: its hint says what may be
given, and its entry under `Args:` is the help.
"""

import argparse
import contextlib
import inspect
import json
import re
import shlex
import types
import typing
from collections.abc import Mapping
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

    @property
    def kind(self) -> Any:
        """The type that is taken first, without its parameters."""
        return _kind(_members(self.hint)[0])

    @property
    def spelling(self) -> str:
        """What the command line calls it: `--batch-size`, or `IMAGE` where it has no name."""
        if not self.positional:
            return "--" + self.name.replace("_", "-")
        name = self.name.upper()
        return name.removesuffix("S") if self.kind is list else name


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


def as_typed(message: str, options: Mapping[str, Option]) -> str:
    """An error of a function in the words of the command line that its arguments come from.

    Errors of this package name an argument at their beginning, `batch_size: expected ...`, between
    backticks, or with its value, `precision='int8'`.

    Args:
        message: The error's.
        options: By the name of an argument the `Option` that it comes from.
    """
    if not options:
        return message
    spelt = {name: option.spelling for name, option in options.items()}
    # Of `model` and `model.depth` the longer one is looked for first.
    name = rf"\b({'|'.join(map(re.escape, sorted(spelt, key=len, reverse=True)))})\b"

    def with_value(found):
        value = found[2].strip("'\"")
        return spelt[found[1]] + ("" if value == "True" else f" {shlex.quote(value)}")

    start = re.match(rf"{name}(, {name})*: ", message)
    if start is not None:
        rest = re.sub(r"\bexpected None\b", "expected null", message[start.end() :])
        message = re.sub(name, lambda found: spelt[found[1]], start[0]) + rest
    message = re.sub(f"`{name}`", lambda found: spelt[found[1]], message)
    value = r"""('.*?'|".*?"|\S+?(?=[.,;)]*(?:\s|$)))"""
    return re.sub(rf"(?<![^\s(]){name}={value}", with_value, message)


def add_option(group, option: Option, flag: bool = False) -> None:
    """Adds an option to an argparse parser, or to a group of its options.

    Args:
        group: The parser or group.
        option: The `Option`.
        flag: Whether a bool takes no value: `--json`, not `--json true`.
    """
    name, hint, default, help, positional = option
    required, kind = default is REQUIRED, option.kind
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
    group.add_argument(
        name if positional else option.spelling, help=help.replace("%", "%%"), **settings
    )


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
