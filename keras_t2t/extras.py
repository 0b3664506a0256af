"""Packages that come with an extra: where one is missing, the error says how to install it."""

import importlib.util


def require(extra: str, *packages: str) -> None:
    """Checks that packages are installed, without importing them.

    Args:
        extra: Name of the extra in `setup.cfg` that brings them.
        *packages: Names that they are imported by.

    Raises:
        ModuleNotFoundError: If one is not installed.
    """
    for name in packages:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(
                f"{name} is not installed: {install_command(extra)}", name=name
            )


def install_command(extra: str) -> str:
    """The command that installs an extra."""
    return f'pip install "keras_t2t[{extra}]"'  # Quoted, because zsh reads the brackets otherwise.
