"""The `keras-t2t` command. A subcommand is two functions and a line in `COMMANDS`."""

import argparse
import json
import os
import sys
from pathlib import Path


def main(argv=None):
    """Runs `keras-t2t`.

    Args:
        argv: List of strings, the arguments. `None` means those of the process.

    Returns:
        The exit code: 0; 1 if part of the work was skipped; 2 if the user made an error, which
        one line on stderr tells.
    """
    parser = _Parser(prog="keras-t2t", description="T2T-ViT for Keras 3.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (add_arguments, run) in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        add_arguments(command)
        command.set_defaults(run=run)
    try:
        arguments = parser.parse_args(argv)
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, `head` for one, has seen enough. Python's flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError) as error:
        _complain("error", error)
        return 2


def open_model(name_or_path, weights=None):
    """The model that `--model` and `--weights` name.

    Args:
        name_or_path: A `.keras` file, or the published name of a variant, such as `"t2t_vit_14"`.
        weights: With a variant only, as its factory takes them. `None` means `"imagenet"`.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If `name_or_path` is neither, the file does not load, or `weights` go with it.
    """
    import keras

    from keras_t2t.models.variants import create, list_variants

    if name_or_path in list_variants():
        return create(name_or_path, weights=weights or "imagenet")
    if Path(name_or_path).suffix != ".keras":
        raise ValueError(
            f"--model: expected a .keras file or one of {', '.join(list_variants())}, "
            f"got {name_or_path!r}"
        )
    if weights is not None:
        raise ValueError(f"--weights: expected none with {name_or_path}, which holds its own")
    if not Path(name_or_path).is_file():
        raise ValueError(f"--model: no such file: {name_or_path}")
    try:
        return keras.saving.load_model(name_or_path, compile=False)
    # A broken file may fail in the zip, HDF5 or JSON reader or in any layer.
    except Exception as error:
        raise ValueError(f"--model: {name_or_path} is no Keras model: {error}") from error


def _add_model(parser):
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME_OR_PATH",
        help="a variant, such as t2t_vit_14, or a .keras file",
    )
    parser.add_argument(
        "--weights", help="of a variant: published ones or a file (default imagenet)"
    )


def _add_predict(parser):
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="file, folder or quoted glob pattern"
    )
    _add_model(parser)
    parser.add_argument("--top", type=_positive, default=5, help="classes an image (default 5)")
    parser.add_argument(
        "--labels",
        help="imagenet, cifar10, cifar100 or a text file with a class name a line "
        "(default: as the weights, or imagenet for 1000 classes, or indices)",
    )
    parser.add_argument(
        "--batch-size", type=_positive, default=16, help="images at a time (default 16)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object an image")


def _predict(arguments):
    """Print the most probable classes of images."""
    from keras_t2t.predict import find_images, predict_images

    images, problems = find_images(arguments.images)
    for problem in problems:
        _complain("skipped", problem)
    code = 1 if problems else 0
    if not images:
        return code
    model = open_model(arguments.model, arguments.weights)
    labels = _labels(arguments)
    for result in predict_images(model, images, arguments.top, labels, arguments.batch_size):
        if "error" in result:
            code = 1
            _complain("skipped", result["error"])
        if arguments.json:
            print(json.dumps(result))
        elif "predictions" in result:
            print(result["image"])
            for line in result["predictions"]:
                name = line["name"].replace("_", " ")
                print(f"  {line['probability']:8.2%}  {name:30}  {line['class']}")
    return code


COMMANDS = {"predict": (_add_predict, _predict)}


def _labels(arguments):
    if arguments.labels is None:
        return arguments.weights if arguments.weights in ("cifar10", "cifar100") else None
    if Path(arguments.labels).is_file():
        return Path(arguments.labels).read_text(encoding="utf-8").splitlines()
    return arguments.labels


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def _complain(kind, message):
    print(f"keras-t2t: {kind}: {' '.join(str(message).split())}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    """Leaves it to `main` to tell errors, so that all are told alike."""

    def error(self, message):
        raise ValueError(message)
