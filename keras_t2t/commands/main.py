"""Runs `keras-t2t`: finds the command, its arguments and the exit code.

A command is a module of this package with a function `run`. Its first line is the help, its
parameters are the options. A module whose options come from elsewhere has the functions `parse` and
`named_options` too.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Sequence

from keras_t2t import __version__
from keras_t2t.commands import options
from keras_t2t.commands.console import complain, without_decoder_lines

COMMANDS = (
    *("check-data", "convert", "evaluate", "export", "finetune", "predict", "show-batch"),
    *("summary", "train", "visualize"),
)
# What functions call an argument that the commands have another name for.
CALLED = {"overwrite": "force", "path": "destination"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `keras-t2t`.

    Args:
        argv: The arguments. `None` means those of the process.

    Returns:
        The exit code: 0; 1 if part of the work was skipped; 2 if the user made an error, which
        one line on stderr tells; 130 if the user stopped it (Ctrl-C).
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    command = None
    try:
        # Only what is neither help, version nor an error has a command.
        name = argv[0] if argv and argv[0] in COMMANDS else _overview().parse_args(argv).command
        command = _module(name)
        parser = options.Parser(prog=f"keras-t2t {name}", description=_summary(command))
        if hasattr(command, "parse"):
            arguments = command.parse(parser, argv[1:])
        else:
            arguments = options.parse(parser, command.run, argv[1:])
        with without_decoder_lines():
            code = command.run(**arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, `head` for one, has seen enough. Python's flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, ImportError) as error:
        known = _options(command) if command else {}
        complain("error", options.as_typed(str(error), known))
        return 2


def _overview():
    parser = options.Parser(prog="keras-t2t", description="T2T-ViT for Keras 3.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        commands.add_parser(name, help=_summary(_module(name)))
    return parser


def _module(name):
    return importlib.import_module(f"keras_t2t.commands.{name.replace('-', '_')}")


def _options(command):
    """The options of a command, by what its functions call them."""
    described = hasattr(command, "named_options")
    found = command.named_options() if described else options.options_of(command.run)
    return found | {called: found[name] for called, name in CALLED.items() if name in found}


def _summary(command):
    return (inspect.getdoc(command.run) or "").partition("\n")[0]
