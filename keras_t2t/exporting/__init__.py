"""From a Keras model to files for servers, phones and browsers, and from such files to answers."""

from keras_t2t.exporting.exporter import export
from keras_t2t.inference.predictor import Predictor

__all__ = ["Predictor", "export"]
