"""Packages that are installed, as if they were not."""

import contextlib
import importlib.machinery
import sys


@contextlib.contextmanager
def missing(packages):
    """As if packages, by the names that they are imported by, were not installed."""
    original = importlib.machinery.PathFinder.find_spec
    loaded = {name: sys.modules[name] for name in list(sys.modules) if top(name) in packages}

    def find_spec(name, path=None, target=None):
        return None if top(name) in packages else original(name, path, target)

    try:
        importlib.machinery.PathFinder.find_spec = find_spec
        for name in loaded:
            del sys.modules[name]
        yield
    finally:
        importlib.machinery.PathFinder.find_spec = original
        sys.modules.update(loaded)


def top(name):
    return name.partition(".")[0]
