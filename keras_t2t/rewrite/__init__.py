"""Equal, faster forms of parts of the graph: for training and inference, and for exported files."""

from keras_t2t.rewrite.fusing import FORMS, fuse
from keras_t2t.rewrite.graph import output_of

__all__ = ["FORMS", "fuse", "output_of"]
