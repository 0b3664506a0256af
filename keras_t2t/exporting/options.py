"""What `keras_t2t.export` is asked for: checked before any model is loaded, without Keras."""

import dataclasses
from pathlib import Path
from typing import Any

from keras_t2t.class_names import class_names
from keras_t2t.extras import require
from keras_t2t.files import refuse_existing
from keras_t2t.inference.images import check_images
from keras_t2t.inference.metadata import Labels
from keras_t2t.validation import one_of, positive_int

SUFFIXES = {"saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
PRECISIONS = {
    "saved_model": ("float32",),
    "litert": ("float32", "float16", "dynamic_int8", "int8"),
    "onnx": ("float32", "float16", "dynamic_int8"),
}
KERAS_NAMES = {"tf_saved_model": "saved_model", "tflite": "litert"}


@dataclasses.dataclass
class ExportOptions:
    """The arguments of `keras_t2t.export` but for the model.

    What may be left open is filled in: `path` is a `Path`, `format` a key of `SUFFIXES`, and
    `batch_size` a number or `"dynamic"`.

    Raises:
        ValueError, OSError, ImportError: As `keras_t2t.export`, where that takes no model to say.
    """

    path: Path
    format: str | None = None
    precision: str = "float32"
    batch_size: int | str | None = None
    with_preprocessing: bool = False
    with_softmax: bool = False
    labels: Labels = None
    integer_io: bool = False
    images: Any = None
    calibration: Any = None
    verify: bool = True
    threads: int | None = None
    overwrite: bool = False
    verbose: bool = True

    def __post_init__(self):
        self.path = Path(self.path).expanduser()
        if not self.path.name:
            raise ValueError(f"path: expected the name of a file or folder, got {self.path}")
        self.format = _format(self.format, self.path)
        precisions = PRECISIONS[self.format]
        if self.batch_size is None:
            self.batch_size = "dynamic" if self.format == "saved_model" else 1
        if self.batch_size != "dynamic":
            positive_int(self.batch_size, "batch_size")
        if self.precision not in precisions:
            raise ValueError(
                f"`precision` must be one of {', '.join(map(repr, precisions))} for format "
                f"{self.format!r}. Received: precision={self.precision!r}"
            )
        if self.labels is not None:
            class_names(self.labels)
        if self.images is not None:
            _check_some(self.images, "images", "some")
        if self.precision == "int8":
            images = () if self.calibration is None else self.calibration
            _check_some(images, "calibration", "some 16 to 100 images, which int8 needs")
        for name, none in (("calibration", None), ("integer_io", False)):
            if self.precision != "int8" and getattr(self, name) is not none:
                raise ValueError(
                    f"{name}: expected with precision='int8' only, got precision={self.precision!r}"
                )
        if self.threads is not None:
            positive_int(self.threads, "threads")
        for taken in (self.path, self.report):
            refuse_existing(taken, self.overwrite)
        if self.path.is_dir() and self.format != "saved_model":
            raise IsADirectoryError(f"{self.path} is a folder, which is not replaced by a file")
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {self.path.parent}")
        require("export", *self._tools())

    @property
    def report(self) -> Path:
        """The file beside the export that says what was found."""
        return self.path.with_name(self.path.name + ".json")

    @property
    def batch(self) -> int | None:
        """The batch as shapes have it: `None` for any."""
        return self.batch_size if isinstance(self.batch_size, int) else None

    def _tools(self) -> list[str]:
        """The packages that write the file, and run it."""
        if self.format == "litert":
            quantizer = ["litert_quantizer"] if self.precision.endswith("int8") else []
            return ["ai_edge_litert", *quantizer]
        if self.format == "onnx":
            runtime = ["onnxruntime"] if self.verify or self.precision != "float32" else []
            return ["onnx", "tf2onnx", *runtime]
        return []


def _check_some(images, name, expected):
    check_images(images, name)
    if not len(images):
        raise ValueError(f"{name}: expected {expected}, got none")


def _format(format: str | None, path: Path) -> str:
    """The name of the format that is meant."""
    suffix = path.suffix.lower()
    names = {known: name for name, known in SUFFIXES.items()}
    if format is None and suffix not in names:
        raise ValueError(
            "path: expected .tflite or .onnx at the end, or no suffix for a SavedModel, got "
            f"{path}. Name the format to write a SavedModel there"
        )
    format = names[suffix] if format is None else KERAS_NAMES.get(format, format)
    expected = SUFFIXES[one_of(format, "format", (*SUFFIXES, *KERAS_NAMES))]
    if suffix != expected and (expected or suffix in names):
        raise ValueError(
            f"path: expected {expected or 'no suffix'} at the end for format {format!r}, got {path}"
        )
    return format
