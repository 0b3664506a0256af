"""What a file may ask for: refused by what it declares, before the memory is taken."""

import os
import re
import zipfile
from typing import Any

import yaml

# How many GiB may be taken beyond a file's own size; the environment variable takes its place.
ALLOWANCE, ALLOWANCE_VARIABLE = 1.0, "KERAS_T2T_ALLOWANCE_GIB"
# Of an image, as a model takes it: 4096 x 4096.
MOST_PIXELS = 2**24
# Of a `.keras` file, those inside of others too.
MOST_LAYERS = 5000
# Bytes of a text in JSON or YAML.
LONGEST_TEXT = 2**24


class TooLarge(ValueError):
    """A file asks for more memory than it deserves."""


def refuse_expansion(path: str | os.PathLike, size: int) -> None:
    """Refuses a file if `size`, the bytes that it would take, is too much beyond its own.

    Raises:
        TooLarge: it is.
        ValueError: the environment variable is no number.
    """
    allowance = os.environ.get(ALLOWANCE_VARIABLE) or ALLOWANCE
    try:
        allowed = float(allowance) * 2**30
    except ValueError:
        raise ValueError(f"{ALLOWANCE_VARIABLE}: expected a number, got {allowance!r}") from None
    if size - os.path.getsize(path) > allowed:
        raise TooLarge(
            f"{path} would take {size / 2**30:.1f} GiB of memory, over {allowance} GiB more than "
            f"its own size. Where a file of yours is right to, set {ALLOWANCE_VARIABLE}"
        )


def is_zip(path: str | os.PathLike) -> bool:
    """Whether a file is a zip file that ends in its directory."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # it says that it has several parts
        return False


def refuse_zip_bomb(path: str | os.PathLike) -> None:
    """Refuses a zip file if what is packed in it would take too much memory.

    Raises:
        TooLarge: it would.
        ValueError: the file is no zip file.
    """
    try:
        with zipfile.ZipFile(path) as file:
            size = sum(entry.file_size for entry in file.infolist())
    except (zipfile.BadZipFile, NotImplementedError, OverflowError, UnicodeError) as error:
        raise ValueError(f"{path} is no complete zip file: {error}") from None
    refuse_expansion(path, size)


def load_yaml(text: str | bytes, name: str) -> Any:
    """Reads YAML in which 1e-3 is a number, as in JSON; YAML 1.1 takes it for a string.

    Aliases are refused, since a few lines of them can stand for terabytes.

    Args:
        text: The YAML.
        name: What messages call it.

    Raises:
        ValueError: If it is not YAML, too long or too deep, or has aliases.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"{name}: expected at most {LONGEST_TEXT} characters, got {len(text)}")
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            alias = self.get_event()
            raise yaml.MarkedYAMLError(
                problem=f"expected no aliases, got *{alias.anchor}", problem_mark=alias.start_mark
            )
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
