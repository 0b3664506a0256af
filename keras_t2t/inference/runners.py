"""Model files of every format behind one call: a batch of images in, scores out."""

import contextlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_t2t.class_names import class_names
from keras_t2t.extras import require
from keras_t2t.inference.images import prepared
from keras_t2t.inference.metadata import NAME, OUTPUTS, Metadata
from keras_t2t.layers.head import model_class_names
from keras_t2t.limits import LONGEST_TEXT, MOST_PIXELS
from keras_t2t.preprocessing_layer import carried_preprocessing
from keras_t2t.rewrite import fuse, output_of
from keras_t2t.seal import verify_archive, verify_seal
from keras_t2t.validation import positive_int

Source = keras.Model | str | os.PathLike


def open_runner(source: Source, threads: int | None = None) -> "Runner":
    """The runner of a model.

    Args:
        source: A `keras.Model`, or the path of a `.keras`, `.tflite` or `.onnx` file or of a
            SavedModel's folder.
        threads: Int, threads that a `.tflite` or `.onnx` model computes with. `None` means one for
            each CPU core that this process may use. The others compute with Keras' and
            TensorFlow's own.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, damaged, or no model of one image; or `threads`
            is no positive int.
        ImportError: If the runtime is not installed.
    """
    threads = cores() if threads is None else positive_int(threads, "threads")
    if isinstance(source, keras.Model):
        return KerasRunner(source)
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"There is no model file {path}")
    if path.is_dir():
        return SavedModelRunner(path)
    if path.suffix == ".keras":
        from keras_t2t.weights.keras_files import read_model

        return KerasRunner(read_model(path))
    kind = {".tflite": LiteRTRunner, ".onnx": OnnxRunner}.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"{path}: expected a .keras, .tflite or .onnx file or the folder of a SavedModel"
        )
    return kind(path, threads)


def cores() -> int:
    """How many CPU cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def image_shapes(name, inputs, outputs) -> tuple[tuple, tuple]:
    """The input's shape (batch, height, width, channels) of a model, and that of an image's scores.

    Args:
        name: What errors call the model.
        inputs: The shapes of its inputs; the batch and other open sizes in any spelling.
        outputs: The shapes of its outputs.

    Returns:
        (input shape, scores' shape): tuples, with `None` for an open size.

    Raises:
        ValueError: If it has not one input and one output of such shapes.
    """
    match [_sizes(shape) for shape in inputs], [_sizes(shape) for shape in outputs]:
        case [(_, int(height), int(width), int()) as image], [(_, *scores)] if scores:
            if height * width > MOST_PIXELS:
                raise ValueError(
                    f"{name}: expected images of at most {MOST_PIXELS} pixels, "
                    f"got {height} x {width}"
                )
            return image, tuple(scores)
        case found:
            raise ValueError(
                f"{name}: expected one input (batch, height, width, channels) of known size and "
                f"one output (batch, ...), got {found[0]} and {found[1]}"
            )


def graph_shapes(model: keras.Model) -> tuple[list, list]:
    """The shapes of a model's inputs and of its outputs; none where it has no graph."""
    inputs, outputs = getattr(model, "inputs", None) or (), getattr(model, "outputs", None) or ()
    return [part.shape for part in inputs], [part.shape for part in outputs]


class Runner:
    """A model that takes images and gives scores.

    Attributes:
        metadata: The `Metadata` of the model.
        input_shape: (batch, height, width, channels), the batch `None` if any is taken.
        outputs: The shape of an image's scores.
        threads: How many it computes with; `None` where the framework chooses.
        run_photos: Function from uint8 images of any size to their scores; `None` but for a
            SavedModel with preprocessing inside.
    """

    metadata: Metadata
    threads: int | None = None
    run_photos: Callable[[np.ndarray], np.ndarray] | None = None

    def __init__(self, name: str | Path, inputs, outputs):
        self.input_shape, self.outputs = image_shapes(name, inputs, outputs)

    def _told(self, text: str | None, path: Path, output: str = "") -> Metadata:
        """What a file says of itself; if it says nothing, what its name and its output's tell.

        Raises:
            ValueError: If that is not of this model.
        """
        if not text:
            name = path.name if path.is_dir() else path.stem
            return Metadata(name, output if output in OUTPUTS else "outputs")
        metadata = Metadata.from_json(text, path)
        preprocessing, classes = metadata.preprocessing, metadata.classes
        if preprocessing is not None:
            size = (preprocessing.height, preprocessing.width, len(preprocessing.mean))
            if size != self.input_shape[1:]:
                raise ValueError(
                    f"{path}: its metadata, {NAME}, tell of images {size}, the model of "
                    f"{self.input_shape[1:]}"
                )
        if classes is not None and self.outputs[-1] not in (None, len(classes)):
            raise ValueError(
                f"{path}: its metadata, {NAME}, tell of {len(classes)} classes, the model of "
                f"{self.outputs[-1]}"
            )
        return metadata

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The scores of a batch as the model takes it, in float32."""
        raise NotImplementedError

    def scores(self, images, batch_size: int) -> np.ndarray:
        """The scores of images as `Predictor.predict` takes them, so many at a time.

        A model of a fixed batch runs at its own, the last one filled up with its last image.
        """
        fixed, *shape = self.input_shape
        size, found = fixed or batch_size, [np.zeros((0, *self.outputs), "float32")]
        for start in range(0, len(images), size):
            some = prepared(images[start : start + size], self.metadata.preprocessing, shape)
            filled = np.minimum(np.arange(fixed or len(some)), len(some) - 1)
            found.append(self.run(self.metadata.taken(some)[filled])[: len(some)])
        return np.concatenate(found)


class KerasRunner(Runner):
    """A `keras.Model` on whatever backend, fused or, for comparisons, as it is."""

    def __init__(self, model: keras.Model, fused: bool = True):
        super().__init__(model.name, *graph_shapes(model))
        names = model_class_names(model)
        self.metadata = Metadata(
            model.name,
            output_of(model),
            preprocessing=carried_preprocessing(model),
            classes=None if names is None else tuple(class_names(names)),
        )
        self.model = fuse(model) if fused else model

    def run(self, batch):
        return np.asarray(self.model.predict_on_batch(batch), "float32")


class SavedModelRunner(Runner):
    """A SavedModel, run by TensorFlow without Keras."""

    def __init__(self, path):
        import tensorflow as tf

        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"{path}: expected the folder of a SavedModel, with saved_model.pb")
        with _reading(path, "SavedModel"):
            self.model = tf.saved_model.load(str(path))
            whole = self.model.signatures["serving_default"]
            # What takes whole images takes prepared ones too.
            self.signature = self.model.signatures.get("prepared_images", whole)
            ((self.input_name, image),) = self.signature.structured_input_signature[1].items()
            ((self.output_name, scores),) = self.signature.structured_outputs.items()
            shapes = [tuple(image.shape)], [tuple(scores.shape)]
        described = path / "assets" / NAME
        text = described.read_text(encoding="utf-8") if described.is_file() else None
        super().__init__(path, *shapes)
        self.metadata = self._told(text, path, self.output_name)
        if whole is not self.signature:
            self.run_photos = lambda photos: whole(images=photos)[self.output_name].numpy()

    def run(self, batch):
        return self.signature(**{self.input_name: batch})[self.output_name].numpy()


class LiteRTRunner(Runner):
    """A `.tflite` file, run by LiteRT on the CPU."""

    def __init__(self, path, threads):
        require("export", "ai_edge_litert")
        from ai_edge_litert.interpreter import Interpreter

        content, text = path.read_bytes(), None
        self.path, self.threads = path, threads
        with _reading(path, "LiteRT model"):
            ours = NAME.encode() in content  # The model itself names what is in the zip behind it.
            if ours:
                verify_archive(path)
            # Bytes are checked before they are used; of a file LiteRT believes what it says.
            self.interpreter = Interpreter(model_content=content, num_threads=threads)
            self.interpreter.allocate_tensors()
            if ours:
                with zipfile.ZipFile(io.BytesIO(content)) as packed:
                    if packed.getinfo(NAME).file_size > LONGEST_TEXT:
                        raise ValueError(f"{NAME}: expected at most {LONGEST_TEXT} bytes")
                    text = packed.read(NAME).decode("utf-8")
        inputs = self.interpreter.get_input_details()
        outputs = self.interpreter.get_output_details()
        shapes = ([part["shape_signature"] for part in parts] for parts in (inputs, outputs))
        super().__init__(path, *shapes)
        self.metadata = self._told(text, path)
        (self.input,), (self.output,) = inputs, outputs

    def run(self, batch):
        if len(batch) != self.input["shape"][0]:
            self.interpreter.resize_tensor_input(self.input["index"], batch.shape)
            self.interpreter.allocate_tensors()
            (self.input,) = self.interpreter.get_input_details()
        if self.input["dtype"] == np.int8:
            scale, zero = self.input["quantization"]
            batch = np.clip(np.round(batch / scale + zero), -128, 127).astype("int8")
        self.interpreter.set_tensor(self.input["index"], batch)
        with _reading(self.path, "LiteRT model"):
            self.interpreter.invoke()
        scores = self.interpreter.get_tensor(self.output["index"])
        if self.output["dtype"] == np.int8:
            scale, zero = self.output["quantization"]
            scores = (scores.astype("float32") - zero) * scale
        return scores.astype("float32")


class OnnxRunner(Runner):
    """An `.onnx` file, run by ONNX Runtime on the CPU."""

    def __init__(self, path, threads):
        require("export", "onnxruntime")
        import onnxruntime

        verify_seal(path)
        self.path, self.threads = path, threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        with _reading(path, "ONNX model"):
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        text = self.session.get_modelmeta().custom_metadata_map.get(NAME)
        shapes = ([part.shape for part in parts] for parts in (inputs, outputs))
        super().__init__(path, *shapes)
        self.metadata = self._told(text, path, outputs[0].name)
        self.input_name = inputs[0].name

    def run(self, batch):
        with _reading(self.path, "ONNX model"):
            (scores,) = self.session.run(None, {self.input_name: batch})
        return np.asarray(scores, "float32")


@contextlib.contextmanager
def _reading(path, kind):
    """Says of whatever a reader meets that the file is not complete."""
    try:
        yield
    except Exception as error:  # Those of ONNX Runtime and TensorFlow share no class.
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: is not a complete {kind} ({reason})") from None


def _sizes(shape):
    """A shape with `None` for open sizes, which are spelt None, -1 or as a name."""
    return tuple(int(n) if isinstance(n, (int, np.integer)) and n >= 0 else None for n in shape)
