"""One way to ask a classifier, whatever file it is in."""

import numpy as np

from keras_t2t.inference.metadata import classes_of
from keras_t2t.inference.runners import open_runner
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

    def __init__(self, source, labels=None, batch_size=16, threads=None):
        self.batch_size = positive_int(batch_size, "batch_size")
        if threads is not None:
            positive_int(threads, "threads")
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

    def predict(self, images):
        """The probabilities of all classes; what the model gives, if that is neither probabilities
        nor known to be logits (a sigmoid's answers, or a file that does not say).

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

    def scores(self, images):
        """What the model itself gives: `predict` without the softmax behind logits."""
        check_images(images)
        size = self.input_shape[0] or self.batch_size
        found = [np.zeros((0, len(self.classes)), "float32")]
        for start in range(0, len(images), size):
            chosen = prepared(
                images[start : start + size], self.preprocessing, self.input_shape[1:]
            )
            for batch in batches(chosen, self.metadata, self.input_shape[0] or len(chosen)):
                found.append(self._runner.run(batch)[: len(chosen)])
        return np.concatenate(found)


def check_images(images, name="images"):
    """Raises a ValueError unless these are several images, as `Predictor.predict` takes them."""
    if isinstance(images, np.ndarray):
        if images.dtype.kind in "biuf" and images.ndim != 4:
            raise ValueError(
                f"{name}: expected shape (n, rows, columns, channels), got {images.shape}"
            )
    elif not isinstance(images, (list, tuple)):
        raise ValueError(
            f"{name}: expected a list of paths, Pillow images or uint8 arrays, or an array, "
            f"got {images!r:.100}"
        )


def batches(images, metadata, size):
    """Batches of one size as a model file takes them, the last filled up with its last image.

    Args:
        images: float32 array (n, height, width, channels), prepared.
        metadata: The file's `Metadata`.
        size: Int.
    """
    if metadata.pixels:
        images = to_pixels(images, metadata.preprocessing)
    for start in range(0, len(images), size):
        yield images[np.minimum(np.arange(start, start + size), len(images) - 1)]


def prepared(images, preprocessing, input_shape):
    """Images as a model takes them.

    Args:
        images: As `Predictor.predict` takes them.
        preprocessing: A `Preprocessing`, or `None` if it is not known.
        input_shape: Tuple (height, width, channels).

    Returns:
        float32 array (n, height, width, channels).

    Raises:
        ValueError: As `Predictor.predict`.
    """
    if isinstance(images, np.ndarray) and images.dtype.kind == "f":
        if images.shape[1:] != tuple(input_shape):
            raise ValueError(
                f"images: expected shape (n, {', '.join(map(str, input_shape))}), "
                f"got {images.shape}"
            )
        return images.astype("float32")
    if preprocessing is None:
        raise ValueError(
            "images: the model does not say how they are prepared, for which it needs a "
            "PreprocessedImages layer. Pass a float array (n, height, width, channels) that is "
            "prepared, or build the model with T2TViT(..., preprocessing=...)"
        )
    return np.stack([preprocessing(image) for image in images])


def to_pixels(images, preprocessing):
    """The uint8 pixels that `preprocessing.normalize` made these images of."""
    mean, std = np.float32(preprocessing.mean), np.float32(preprocessing.std)
    return np.clip(np.round((images * std + mean) * 255.0), 0, 255).astype("uint8")


def softmax(logits):
    """Probabilities, over the last axis."""
    scores = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)
