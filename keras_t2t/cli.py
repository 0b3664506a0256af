"""The `keras-t2t` command. A subcommand is two functions and a line in `COMMANDS`."""

import argparse
import contextlib
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
        name_or_path: The published name of a variant, such as `"t2t_vit_14"`, or a file as
            `keras_t2t.convert` takes it: a `.keras` file, or weights that tell their variant.
        weights: With a variant only, as its factory takes them. `None` means `"imagenet"`.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If `name_or_path` is neither, or `weights` go with a file.
        ValueError, OSError, ImportError: As `keras_t2t.create` and `keras_t2t.convert`.
    """
    from keras_t2t.models.variants import create, list_variants
    from keras_t2t.weights.convert import load_model
    from keras_t2t.weights.pretrained import SUFFIXES

    if name_or_path in list_variants():
        return create(name_or_path, weights=weights or "imagenet")
    if not name_or_path.endswith(SUFFIXES):
        raise ValueError(
            f"--model: expected a file ({', '.join(SUFFIXES)}) or one of "
            f"{', '.join(list_variants())}, got {name_or_path!r}"
        )
    if weights is not None:
        raise ValueError(f"--weights: expected none with {name_or_path}, which holds its own")
    return load_model(name_or_path)


def _add_model(parser):
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME_OR_PATH",
        help="a variant, such as t2t_vit_14, a .keras file or weights that tell their variant",
    )
    parser.add_argument(
        "--weights", help="of a variant: published ones or a file (default imagenet)"
    )


def _add_labels(parser):
    parser.add_argument(
        "--labels",
        help="imagenet, cifar10, cifar100 or a text file with a class name a line "
        "(default: as the weights, or imagenet for 1000 classes, or indices)",
    )


def _add_predict(parser):
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="file, folder or quoted glob pattern"
    )
    _add_model(parser)
    parser.add_argument("--top", type=_positive, default=5, help="classes an image (default 5)")
    _add_labels(parser)
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


def _add_convert(parser):
    parser.add_argument("source", metavar="SOURCE", help="a file of weights")
    parser.add_argument(
        "destination",
        metavar="DEST",
        help="ends in .weights.h5, .keras, .pth, .safetensors or .npz",
    )
    parser.add_argument("--variant", help="of the source, where its keys and shapes do not tell")
    parser.add_argument("--force", action="store_true", help="replace an existing DEST")


def _convert(arguments):
    """Convert weights: a published checkpoint to Keras, or a Keras model back."""
    from keras_t2t.weights.convert import convert

    source, destination = arguments.source, arguments.destination
    try:
        model = convert(source, destination, arguments.variant, overwrite=arguments.force)
    except FileExistsError as error:
        raise ValueError(f"{destination} exists. Pass --force to replace it.") from error
    print(f"{destination}: {model.name}, {model.count_params():,} parameters")
    return 0


def _add_summary(parser):
    parser.add_argument("variants", nargs="*", metavar="NAME", help="variants (default all)")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw accuracy against cost, ViT and ResNet beside it, to a .png, .svg or .pdf",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing FILE")


def _summary(arguments):
    """Compare the variants: parameters, multiply-accumulates, published accuracy."""
    from keras_t2t.inspection import save_figure, summary_table

    print(summary_table(arguments.variants))
    if arguments.plot:
        with _naming_force():
            save_figure(arguments.plot, overwrite=arguments.force)
    return 0


def _add_visualize(parser):
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="file; of several the first is drawn, and dead channels are counted over all",
    )
    _add_model(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the report")
    parser.add_argument("--top", type=_positive, default=5, help="classes to name (default 5)")
    _add_labels(parser)
    parser.add_argument("--force", action="store_true", help="replace existing files in DIR")


def _visualize(arguments):
    """Draw feature maps and attention of an image: PNG files and an HTML page."""
    from keras_t2t.inspection import visualize

    model = open_model(arguments.model, arguments.weights)
    with _naming_force():
        page = visualize(
            model,
            arguments.images,
            arguments.out,
            labels=_labels(arguments),
            top=arguments.top,
            overwrite=arguments.force,
        )
    print(page)
    return 0


def _add_train(parser):
    # The options are the fields of dataclasses, which another library reads: here, all are text.
    parser.prefix_chars = "\0"
    parser.add_argument("options", nargs="*", metavar="OPTION", help="see `train --help`")


def _train(arguments):
    """Train a model by a recipe, or go on with a training that was interrupted."""
    from keras_t2t.training.command import run

    return run(arguments.options, "published", "keras-t2t train")


def _finetune(arguments):
    """Train a pretrained model on other images: `train` with another recipe."""
    from keras_t2t.training.command import run

    return run(arguments.options, "finetune", "keras-t2t finetune")


COMMANDS = {
    "convert": (_add_convert, _convert),
    "finetune": (_add_train, _finetune),
    "predict": (_add_predict, _predict),
    "summary": (_add_summary, _summary),
    "train": (_add_train, _train),
    "visualize": (_add_visualize, _visualize),
}


@contextlib.contextmanager
def _naming_force():
    """What `overwrite=True` is to a function, `--force` is to its command."""
    try:
        yield
    except FileExistsError as error:
        raise ValueError(str(error).replace("overwrite=True", "--force")) from error


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
