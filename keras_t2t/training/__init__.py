"""Training."""

from keras_t2t.training.optimizer import AdamW

__all__ = ["AdamW"]
