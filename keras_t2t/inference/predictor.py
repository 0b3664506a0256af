"""One way to ask a classifier, whatever file it is in."""

import numpy as np

from keras_t2t.inference.images import check_images
from keras_t2t.inference.metadata import Labels, classes_of
from keras_t2t.inference.runners import Source, open_runner
from keras_t2t.preprocessing import Preprocessing
from keras_t2t.validation import positive_int


class Predictor:
    """Classifies images with a Keras model or with any file exported from it.

        predictor = keras_t2t.Predictor("t2t_vit_7.tflite")
        probabilities = predictor.predict(["cat.jpg", "dog.jpg"])
        predictor.classes[probabilities[0].argmax()]

    It works under every Keras backend. A SavedModel is a program: open only those that you trust.

    Args:
        source: A `keras.Model`, or the path of a `.keras`, `.tflite` or `.onnx` file or of a
            SavedModel's folder.
        labels: As `keras_t2t.decode_predictions` takes them. `None` means those in the file, else
            ImageNet's for 1000 outputs, else the indices.
        batch_size: Int, images at a time, default 16. A file of a fixed batch runs at its own.
        threads: Int, threads that a `.tflite` or `.onnx` model computes with. `None` means one for
            each CPU core.

    Attributes:
        classes: List of (class id, name) in the order of the probabilities.
        preprocessing: The `Preprocessing` that images get, or `None` if it is not known.
        input_shape: Tuple (batch, height, width, channels); the batch is `None` if any is taken.
        metadata: What the file says about itself.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, damaged or no classifier of images, there is
            another number of labels than of outputs, or a number is no positive int.
        ImportError: If the file's runtime is not installed.
    """

    def __init__(
        self,
        source: Source,
        labels: Labels = None,
        batch_size: int = 16,
        threads: int | None = None,
    ):
        self.batch_size = positive_int(batch_size, "batch_size")
        self._runner = runner = open_runner(source, threads)
        self.metadata, self.input_shape = runner.metadata, runner.input_shape
        self.preprocessing = self.metadata.preprocessing
        if len(runner.outputs) != 1:
            raise ValueError(
                f"model {self.metadata.name!r}: expected an output of shape (batch, classes), got "
                f"{(None, *runner.outputs)}"
            )
        (count,) = runner.outputs
        classes = self.metadata.classes if labels is None else None
        classes = classes or classes_of(labels, count, self.metadata.name)
        self.classes = list(classes or ((str(i), str(i)) for i in range(count)))

    def predict(self, images) -> np.ndarray:
        """The probabilities of all classes.

        What the model gives, if that is neither probabilities nor known to be logits (a sigmoid's
        answers, or a file that does not say).

        Args:
            images: A list of paths, Pillow images or uint8 arrays, or a uint8 array (n, rows,
                columns, channels): they are prepared as the model asks. Or a float array (n,
                height, width, channels) that is prepared already.

        Returns:
            float32 NumPy array (n, classes).

        Raises:
            ValueError: If `images` are of another type, an image cannot be read, the shape is
                another, or images are to be prepared but the file does not say how.
        """
        scores = self.scores(images)
        return softmax(scores) if self.metadata.output == "logits" else scores

    def scores(self, images) -> np.ndarray:
        """What the model itself gives: `predict` without the softmax behind logits."""
        check_images(images)
        return self._runner.scores(images, self.batch_size)

    def known_preprocessing(self) -> Preprocessing:
        """`preprocessing`, where it has to be known.

        Raises:
            ValueError: If it is not.
        """
        if self.preprocessing is None:
            raise ValueError(
                f"model {self.metadata.name!r}: expected one PreprocessedImages layer, which tells "
                "how images are prepared, got none. T2TViT(..., preprocessing=...) puts one in."
            )
        return self.preprocessing


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, over the last axis."""
    scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)
