"""Model files of every format behind one call: a batch of images in, scores out."""

import io
import os
import zipfile
from pathlib import Path

import keras
import numpy as np

from keras_t2t.inference.metadata import NAME, Metadata
from keras_t2t.preprocessing_layer import carried_preprocessing
from keras_t2t.rewrite import output_of


def open_runner(source, threads=None):
    """The runner of a model.

    Args:
        source: A `keras.Model`, or the path of a `.keras`, `.tflite` or `.onnx` file or of a
            SavedModel's folder.
        threads: Int, threads that a `.tflite` or `.onnx` model computes with. `None` means one for
            each CPU core that this process may use. The others compute with Keras' and
            TensorFlow's own.

    Returns:
        An object with `metadata`, `input_shape` (the batch `None` if any is taken), `outputs` (how
        many for each image), `threads` (`None` where the framework chooses) and `run(batch)`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, damaged, or no model of one image.
        ImportError: If the runtime is not installed.
    """
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
    kinds = {".tflite": LiteRTRunner, ".onnx": OnnxRunner}
    kind = kinds.get(path.suffix.lower())
    if kind is not None:
        return kind(path, threads or cores())
    raise ValueError(
        f"{path}: expected a .keras, .tflite or .onnx file or the folder of a SavedModel"
    )


def cores():
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class KerasRunner:
    """A `keras.Model` on whatever backend."""

    threads = None

    def __init__(self, model):
        self.model = model
        self.metadata = Metadata(
            model.name, output_of(model), preprocessing=carried_preprocessing(model)
        )
        self.input_shape, self.outputs = _shapes(model.input_shape, model.output_shape, model.name)

    def run(self, batch):
        return np.asarray(self.model.predict_on_batch(batch), "float32")


class SavedModelRunner:
    """A SavedModel, run by TensorFlow without Keras."""

    threads = None

    def __init__(self, path):
        import tensorflow as tf

        if not (path / "saved_model.pb").is_file():
            raise ValueError(f"{path}: expected the folder of a SavedModel, with saved_model.pb")
        try:
            self.model = tf.saved_model.load(str(path))
            signatures = self.model.signatures
            # What takes whole images takes prepared ones too.
            self.signature = signatures.get("prepared_images") or signatures["serving_default"]
            self.photos = signatures["serving_default"] if "prepared_images" in signatures else None
            _, inputs = self.signature.structured_input_signature
            ((self.input_name, image),) = inputs.items()
            ((self.output_name, scores),) = self.signature.structured_outputs.items()
        except Exception as error:  # whatever TensorFlow's reader meets
            raise ValueError(f"{path}: cannot be read as a SavedModel ({_line(error)})") from None
        described = path / "assets" / NAME
        self.metadata = (
            Metadata.from_json(described.read_text(encoding="utf-8"), path)
            if described.is_file()
            else Metadata(path.name, _kind(self.output_name))
        )
        self.input_shape, self.outputs = _shapes(image.shape, scores.shape, path)

    def run(self, batch):
        return self.signature(**{self.input_name: batch})[self.output_name].numpy()

    def run_photos(self, photos):
        """Scores of uint8 images of any size; only with preprocessing inside."""
        return self.photos(images=photos)[self.output_name].numpy()


class LiteRTRunner:
    """A `.tflite` file, run by LiteRT on the CPU."""

    def __init__(self, path, threads):
        from ai_edge_litert.interpreter import Interpreter

        content, self.threads = path.read_bytes(), threads
        try:
            # Bytes are checked before they are used; of a file LiteRT believes what it says.
            self.interpreter = Interpreter(model_content=content, num_threads=threads)
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path}: is not a complete LiteRT model ({_line(error)})") from None
        inputs = self.interpreter.get_input_details()
        outputs = self.interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"{path}: expected a model of one input and one output")
        (self.input,), (self.output,) = inputs, outputs
        self.metadata = _packed_metadata(content, path) or Metadata(path.stem)
        shape = (self.input["shape_signature"], self.output["shape_signature"])
        self.input_shape, self.outputs = _shapes(*shape, path)

    def run(self, batch):
        if len(batch) != self.input["shape"][0]:
            shape = (len(batch), *self.input_shape[1:])
            self.interpreter.resize_tensor_input(self.input["index"], shape)
            self.interpreter.allocate_tensors()
            (self.input,) = self.interpreter.get_input_details()
        if self.input["dtype"] == np.int8:
            scale, zero = self.input["quantization"]
            batch = np.clip(np.round(batch / scale + zero), -128, 127).astype("int8")
        self.interpreter.set_tensor(self.input["index"], batch)
        self.interpreter.invoke()
        scores = self.interpreter.get_tensor(self.output["index"])
        if self.output["dtype"] == np.int8:
            scale, zero = self.output["quantization"]
            scores = (scores.astype("float32") - zero) * scale
        return scores.astype("float32")


class OnnxRunner:
    """An `.onnx` file, run by ONNX Runtime on the CPU."""

    def __init__(self, path, threads):
        import onnxruntime

        self.threads = threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions have no class of their own
            raise ValueError(f"{path}: is not a complete ONNX model ({_line(error)})") from None
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ValueError(f"{path}: expected a model of one input and one output")
        self.input_name = inputs[0].name
        described = self.session.get_modelmeta().custom_metadata_map.get(NAME)
        self.metadata = (
            Metadata.from_json(described, path)
            if described
            else Metadata(path.stem, _kind(outputs[0].name))
        )
        shapes = [
            [size if isinstance(size, int) else None for size in tensor.shape]
            for tensor in (inputs[0], outputs[0])
        ]
        self.input_shape, self.outputs = _shapes(*shapes, path)

    def run(self, batch):
        (scores,) = self.session.run(None, {self.input_name: batch})
        return scores.astype("float32")


def _packed_metadata(content, path):
    """What is packed into a LiteRT model, in the way of LiteRT's associated files: a zip behind."""
    if NAME.encode() not in content:  # which the model itself names, before the zip
        return None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            text = packed.read(NAME).decode("utf-8")
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path}: is not a complete LiteRT model ({_line(error)})") from None
    return Metadata.from_json(text, path)


def _kind(output_name):
    return output_name if output_name in ("logits", "probabilities") else "outputs"


def _shapes(inputs, outputs, name):
    """The input's shape with `None` for an open batch, and the outputs for each image."""
    inputs, outputs = (
        tuple(None if size in (None, -1) else int(size) for size in shape)
        if isinstance(shape, (tuple, list, np.ndarray)) or hasattr(shape, "as_list")
        else ()
        for shape in (inputs, outputs)
    )
    if len(inputs) != 4 or None in inputs[1:] or len(outputs) < 2:
        raise ValueError(
            f"{name}: expected one input (batch, height, width, channels) of known size and one "
            f"output (batch, ...), got {inputs} and {outputs}"
        )
    return inputs, outputs[1:]


def _line(error):
    return " ".join(str(error).split())[:200]
