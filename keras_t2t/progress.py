"""Progress of long work, on stderr and only where that is a terminal."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, unit: str) -> Iterator[Item]:
    """Yields `items` and draws a bar of how many there were, once they take longer than a second.

    Args:
        items: What is worked through.
        total: How many there are.
        unit: What they are called, in the plural.
    """
    from tqdm import tqdm

    # None: only on a terminal.
    yield from tqdm(items, total=total, unit=f" {unit}", disable=None, leave=False, delay=1)


def printable(text: object) -> str:
    """A stranger's text, in which an escape code stands for what could drive a terminal."""

    def shown(character):
        harmless = character.isprintable() or character == "\n"
        return character if harmless else character.encode("unicode_escape").decode()

    return "".join(map(shown, str(text)))


@contextlib.contextmanager
def working(text: str) -> Iterator[None]:
    """Shows a line of text while the block runs."""
    shown = sys.stderr is not None and sys.stderr.isatty()
    if shown:
        print(f"{text} ...", end="\r", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:  # Erased to the end of the line.
            print(end="\r\033[K", file=sys.stderr, flush=True)
