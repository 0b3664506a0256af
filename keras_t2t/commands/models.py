"""The models, labels, images and data that several commands take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from keras_t2t.commands.console import load
from keras_t2t.commands.options import Positive

if TYPE_CHECKING:
    import keras

    from keras_t2t.inference import Predictor

_MODEL = "A variant, such as t2t_vit_14, a .keras file, or weights that tell their variant"
_EXPORTED = "; or an exported .tflite or .onnx file or SavedModel"

Model = Annotated[str, _MODEL + "."]
AnyModel = Annotated[str, _MODEL + _EXPORTED + "."]
Weights = Annotated[
    str | None, "Weights of a variant: a published name or a file (default: imagenet)."
]
Threads = Annotated[
    Positive | None, "Threads for a .tflite or .onnx model (default: one for each CPU core)."
]
Labels = Annotated[
    str | None,
    "Class names: imagenet, cifar10, cifar100 or a text file with a name a line (default: those "
    "that the model carries, or imagenet for 1000 classes, or numbers).",
]


def check_model(name_or_path: str, weights: str | None = None, exported: bool = False) -> None:
    """Raises what can be said of `--model` and `--weights` without Keras.

    Args:
        name_or_path: The published name of a variant, such as `"t2t_vit_14"`, or a file as
            `keras_t2t.convert` takes it: a `.keras` file, or weights that tell their variant.
        weights: With a variant only, as its factory takes them. `None` means `"imagenet"`.
        exported: Whether an exported file will do, which `keras_t2t.Predictor` takes.

    Raises:
        ValueError: If `name_or_path` is neither, or `weights` go with a file or are not published.
        FileNotFoundError: If there is no such file.
    """
    from keras_t2t.models.variants import list_variants
    from keras_t2t.weights.published import SUFFIXES, find

    if name_or_path in list_variants():
        weights = weights or "imagenet"
        if not weights.endswith(SUFFIXES) and not Path(weights).is_file():
            find(name_or_path, weights)
        return
    if not (exported and is_exported(name_or_path) or name_or_path.endswith(SUFFIXES)):
        raise ValueError(
            f"model: expected a file ({', '.join(SUFFIXES)}) or one of "
            f"{', '.join(list_variants())}{_EXPORTED * exported}, got {name_or_path!r}"
        )
    if weights is not None:
        raise ValueError(f"weights: expected none with {name_or_path}, which holds its own")
    check_file(name_or_path)


def check_file(path: str) -> None:
    """Raises a FileNotFoundError unless there is such a file of a model or of weights."""
    if not Path(path).expanduser().exists():
        raise FileNotFoundError(f"There is no file {path}")


def is_exported(path: str) -> bool:
    """Whether a path is of a `.tflite` or `.onnx` file or of a folder, as a SavedModel is."""
    return path.lower().endswith((".tflite", ".onnx")) or Path(path).is_dir()


def open_model(name_or_path: str, weights: str | None = None) -> "keras.Model":
    """The model that `--model` and `--weights` name; see `check_model`."""
    check_model(name_or_path, weights)
    load("keras")
    from keras_t2t.models.variants import list_variants
    from keras_t2t.zoo import create, load_model

    if name_or_path in list_variants():
        return create(name_or_path, weights=weights or "imagenet")
    return load_model(name_or_path)


def open_predictor(
    name_or_path: str,
    weights: str | None = None,
    labels: str | None = None,
    batch_size: int = 16,
    threads: int | None = None,
) -> "Predictor":
    """The `keras_t2t.Predictor` of such a model or of an exported file; see `check_model`."""
    check_model(name_or_path, weights, exported=True)
    names = read_labels(labels)
    load("keras")
    from keras_t2t.inference.predictor import Predictor

    exported = is_exported(name_or_path)
    source = name_or_path if exported else open_model(name_or_path, weights)
    return Predictor(source, names, batch_size, threads)


def read_labels(labels: str | None) -> str | list[str] | None:
    """The names of classes that `--labels` stands for; `None` for `None`."""
    if labels is None:
        return None
    path = Path(labels)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            raise ValueError(f"labels: expected a text file in UTF-8, got {path}") from None
    if path.suffix or path.name != labels:  # as no name of labels has
        raise FileNotFoundError(f"labels: there is no file {path}")
    return labels


def some_images(sources: list[str] | None, name: str, limit: int = 100) -> list[str] | None:
    """At most `limit` of the image files behind `sources`, evenly spread; `None` for `None`.

    Raises:
        ValueError: If a source brings none; the argument is called `name` there.
    """
    from keras_t2t.image_files import find_images

    if sources is None:
        return None
    images, problems = find_images(sources)
    if problems:
        raise ValueError(f"{name}: {problems[0]}")
    return [images[i * len(images) // limit] for i in range(limit)] if images[limit:] else images


def check_data(data: str) -> None:
    """Raises a FileNotFoundError unless `--data` is a TFDS name or a folder."""
    if not data.startswith("tfds:") and not Path(data).is_dir():
        raise FileNotFoundError(f"There is no folder {data}")
