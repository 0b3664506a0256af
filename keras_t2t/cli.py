"""The `keras-t2t` command. A subcommand is two functions and a line in `COMMANDS`."""

import argparse
import contextlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from keras_t2t import __version__

MODEL = "a variant, such as t2t_vit_14, a .keras file or weights that tell their variant"
EXPORTED = "; or an exported .tflite or .onnx file or SavedModel"


def main(argv=None):
    """Runs `keras-t2t`.

    Args:
        argv: List of strings, the arguments. `None` means those of the process.

    Returns:
        The exit code: 0; 1 if part of the work was skipped; 2 if the user made an error, which
        one line on stderr tells; 130 if the user stopped it (Ctrl-C).
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = _Parser(prog="keras-t2t", description="T2T-ViT for Keras 3.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (add_arguments, run) in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        add_arguments(command)
        command.set_defaults(run=run)
    try:
        arguments = parser.parse_args(argv, argparse.Namespace(argv=argv))
        code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, `head` for one, has seen enough. Python's flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, ImportError) as error:
        _complain("error", error)
        return 2


def open_model(name_or_path, weights=None, argument="--model", others=""):
    """The model that `--model` and `--weights` name.

    Args:
        name_or_path: The published name of a variant, such as `"t2t_vit_14"`, or a file as
            `keras_t2t.convert` takes it: a `.keras` file, or weights that tell their variant.
        weights: With a variant only, as its factory takes them. `None` means `"imagenet"`.
        argument: What errors call `name_or_path`.
        others: What else they say is expected.

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
            f"{argument}: expected a file ({', '.join(SUFFIXES)}) or one of "
            f"{', '.join(list_variants())}{others}, got {name_or_path!r}"
        )
    if weights is not None:
        raise ValueError(f"--weights: expected none with {name_or_path}, which holds its own")
    return load_model(name_or_path)


def open_predictor(
    name_or_path, weights=None, labels=None, batch_size=16, threads=None, argument="--model"
):
    """The `keras_t2t.Predictor` of a model as `open_model` takes it, or of an exported file.

    Args:
        name_or_path: As `open_model` takes it, or a `.tflite` or `.onnx` file or a SavedModel's
            folder.
        weights, argument: As `open_model` takes them.
        labels, batch_size, threads: As `keras_t2t.Predictor` takes them.

    Returns:
        A `keras_t2t.Predictor`.

    Raises:
        ValueError, OSError, ImportError: As `open_model` and `keras_t2t.Predictor`.
    """
    from keras_t2t.exporting import Predictor

    path = Path(name_or_path)
    exported = path.suffix.lower() in (".tflite", ".onnx") or path.is_dir()
    if exported and weights is not None:
        raise ValueError(f"--weights: expected none with {name_or_path}, which holds its own")
    source = name_or_path if exported else open_model(name_or_path, weights, argument, EXPORTED)
    return Predictor(source, labels, batch_size, threads)


def _add_model(parser, exported=""):
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME_OR_PATH",
        help=MODEL + exported,
    )
    _add_weights(parser)


def _add_weights(parser):
    parser.add_argument(
        "--weights", help="of a variant: published ones or a file (default imagenet)"
    )


def _add_threads(parser):
    parser.add_argument(
        "--threads",
        type=_positive,
        help="of a .tflite or .onnx model (default: one for each CPU core)",
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
    _add_model(parser, EXPORTED)
    parser.add_argument("--top", type=_positive, default=5, help="classes an image (default 5)")
    _add_labels(parser)
    parser.add_argument(
        "--batch-size", type=_positive, default=16, help="images at a time (default 16)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object an image")


def _predict(arguments):
    """Print the most probable classes of images."""
    from keras_t2t.inference.predict import find_images, predict_images

    images, problems = find_images(arguments.images)
    for problem in problems:
        _complain("skipped", problem)
    code = 1 if problems else 0
    if not images:
        return code
    size = arguments.batch_size
    predictor = open_predictor(arguments.model, arguments.weights, _labels(arguments), size)
    for result in predict_images(predictor, images, arguments.top, batch_size=size):
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


def _add_evaluate(parser):
    parser.add_argument("model", metavar="MODEL", help=MODEL + EXPORTED)
    _add_weights(parser)
    parser.add_argument(
        "--data",
        required=True,
        metavar="SOURCE",
        help="tfds:NAME, a prepared TFDS folder, or an image folder with val/ or validation/",
    )
    parser.add_argument(
        "--batch-size", type=_positive, default=64, help="images at a time (default 64)"
    )
    _add_threads(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _evaluate(arguments):
    """Measure top-1 and top-5 accuracy on the validation images of a data set."""
    from keras_t2t.inference.evaluate import evaluate

    predictor = open_predictor(
        arguments.model, arguments.weights, threads=arguments.threads, argument="MODEL"
    )
    found = evaluate(predictor, arguments.data, arguments.batch_size)
    if arguments.json:
        print(json.dumps({"model": arguments.model, "data": arguments.data, **found}))
        return 0
    top5 = f"top-5 {found['top5']:.2%}, " if "top5" in found else ""
    print(
        f"top-1 {found['top1']:.2%}, {top5}{found['images']:,} images, "
        f"{found['images_per_second']:,.1f} images/s"
    )
    return 0


def _add_export(parser):
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    parser.add_argument(
        "destination",
        metavar="DEST",
        help="ends in .tflite or .onnx; without, a SavedModel's folder",
    )
    _add_weights(parser)
    parser.add_argument("--format", help="saved_model, litert or onnx (default: as DEST ends)")
    parser.add_argument(
        "--precision",
        default="float32",
        help="float32, float16, dynamic_int8 (recommended for the edge) or int8 (default float32)",
    )
    parser.add_argument(
        "--batch-size",
        type=lambda text: text if text == "dynamic" else _positive(text),
        help="a number or dynamic (default: 1, of a SavedModel dynamic)",
    )
    parser.add_argument(
        "--with-preprocessing", action="store_true", help="take uint8 pixels, not prepared images"
    )
    parser.add_argument("--with-softmax", action="store_true", help="give probabilities")
    _add_labels(parser)
    parser.add_argument(
        "--integer-io", action="store_true", help="with int8: take and give int8 numbers"
    )
    parser.add_argument(
        "--calibration", nargs="+", metavar="IMAGE", help="with int8: images to see ranges on"
    )
    parser.add_argument(
        "--images", nargs="+", metavar="IMAGE", help="to verify with (default: 16 of our own)"
    )
    parser.add_argument("--no-verify", action="store_true", help="do not run the exported file")
    _add_threads(parser)
    parser.add_argument("--force", action="store_true", help="replace an existing DEST and report")


def _export(arguments):
    """Export a model as SavedModel, LiteRT or ONNX, and verify the file."""
    import keras

    from keras_t2t.exporting import export
    from keras_t2t.exporting.exporter import check_arguments

    choices = {
        "format": arguments.format,
        "precision": arguments.precision,
        "batch_size": arguments.batch_size,
        "labels": _labels(arguments),
        "integer_io": arguments.integer_io,
        "images": _some_images(arguments.images),
        "calibration": _some_images(arguments.calibration),
        "threads": arguments.threads,
        "overwrite": arguments.force,
    }
    # Before a model is loaded, or another process started.
    with _naming_force():
        check_arguments(arguments.destination, **choices)
    if keras.backend.backend() != "tensorflow":
        program = "import sys; from keras_t2t.cli import main; sys.exit(main())"
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        command = [sys.executable, "-c", program, *arguments.argv]
        return subprocess.run(command, env=environment).returncode
    with _naming_force():
        export(
            open_model(arguments.model, arguments.weights, "MODEL"),
            arguments.destination,
            with_preprocessing=arguments.with_preprocessing,
            with_softmax=arguments.with_softmax,
            verify=not arguments.no_verify,
            **choices,
        )
    return 0


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
    with _naming_force(), _printing_notes():
        model = convert(source, destination, arguments.variant, overwrite=arguments.force)
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
    from keras_t2t.inspection.summary import check_figure, save_figure, summary_table

    with _naming_force():
        if arguments.plot:
            check_figure(arguments.plot, arguments.force, "--plot")  # before all the counting
        table = summary_table(arguments.variants)
        if arguments.plot:
            save_figure(arguments.plot, overwrite=arguments.force)
    print(table)
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
    from keras_t2t.inspection.report import check_folder, visualize

    labels = _labels(arguments)
    with _naming_force():
        check_folder(arguments.out, arguments.force, "--out")  # before a model is loaded
        page = visualize(
            open_model(arguments.model, arguments.weights),
            arguments.images,
            arguments.out,
            labels=labels,
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


def _add_check_data(parser):
    parser.add_argument("folder", metavar="FOLDER", help="an image folder, with train/ and val/")


def _check_data(arguments):
    """Look for undecodable images, empty classes, and classes that only one split has."""
    from keras_t2t.data.check import check_data

    images, problems = check_data(arguments.folder)
    number = 0
    for problem in problems:
        number += 1
        print(problem, flush=True)
    print(f"{arguments.folder}: {images:,} image(s), {number:,} problem(s)")
    return 1 if number else 0


def _add_show_batch(parser):
    parser.add_argument(
        "data", metavar="DATA", help="tfds:NAME, a prepared TFDS folder or an image folder"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="the .png to write")
    parser.add_argument(
        "--recipe", default="published", help="a name or a recipe.yaml (default published)"
    )
    parser.add_argument("--images", type=_positive, default=32, help="how many (default 32)")
    parser.add_argument("--seed", type=int, default=0, help="of the order and all draws")
    parser.add_argument("--data-dir", help="with tfds:NAME, the folder of all TFDS data sets")
    parser.add_argument("--manual-dir", help="with tfds:NAME, files that TFDS cannot download")
    parser.add_argument("--force", action="store_true", help="replace an existing FILE")


def _show_batch(arguments):
    """Draw a batch as training would see it, with its labels."""
    from keras_t2t.data.show import show_batch
    from keras_t2t.data.sources import open_source
    from keras_t2t.files import replacing
    from keras_t2t.training.recipe import find_recipe

    recipe = find_recipe(arguments.recipe)
    source = open_source(arguments.data, "train", arguments.data_dir, arguments.manual_dir)
    if not arguments.out.endswith(".png"):
        raise ValueError(f"--out: expected a file that ends in .png, got {arguments.out}")
    with _naming_force(), replacing(Path(arguments.out), arguments.force) as temporary:
        figure = show_batch(
            source, recipe.augmentation, recipe.preprocessing, arguments.images, arguments.seed
        )
        figure.savefig(temporary, dpi=120)
    print(arguments.out)
    return 0


COMMANDS = {
    "check-data": (_add_check_data, _check_data),
    "convert": (_add_convert, _convert),
    "evaluate": (_add_evaluate, _evaluate),
    "export": (_add_export, _export),
    "finetune": (_add_train, _finetune),
    "predict": (_add_predict, _predict),
    "show-batch": (_add_show_batch, _show_batch),
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


@contextlib.contextmanager
def _printing_notes():
    """Prints what the package reports at INFO and above, such as what was left out."""

    class Printer(logging.Handler):
        def emit(self, record):
            _complain("note", record.getMessage())

    logger, printer = logging.getLogger("keras_t2t"), Printer()
    level = logger.level
    logger.addHandler(printer)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(printer)
        logger.setLevel(level)


def _some_images(sources, limit=100):
    """At most `limit` of the image files behind `sources`, evenly spread; `None` for `None`."""
    from keras_t2t.inference.predict import find_images

    if sources is None:
        return None
    images, problems = find_images(sources)
    if problems:
        raise ValueError(problems[0])
    return [images[i * len(images) // limit] for i in range(limit)] if images[limit:] else images


def _labels(arguments):
    if arguments.labels is None:
        return arguments.weights if arguments.weights in ("cifar10", "cifar100") else None
    path = Path(arguments.labels)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"--labels: expected a text file in UTF-8, got {path}") from None
    if path.suffix or path.name != arguments.labels:  # as no name of labels has
        raise FileNotFoundError(f"--labels: there is no file {path}")
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
