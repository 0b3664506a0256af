"""The layers that T2T-ViT is made of."""

from keras_t2t.layers.attention import PerformerAttention, SelfAttention
from keras_t2t.layers.embedding import ClassToken, SinusoidPositions, TokenPooling
from keras_t2t.layers.encoder import DenseEncoderBlock, Encoder, EncoderBlock
from keras_t2t.layers.ghost import GhostAttention, GhostMLP
from keras_t2t.layers.head import Dense
from keras_t2t.layers.mlp import MLP
from keras_t2t.layers.soft_split import Restructurization, SoftSplit
from keras_t2t.layers.squeeze_excite import SqueezeExcite
from keras_t2t.layers.t2t_block import T2TBlock

__all__ = [
    "MLP",
    "ClassToken",
    "Dense",
    "DenseEncoderBlock",
    "Encoder",
    "EncoderBlock",
    "GhostAttention",
    "GhostMLP",
    "PerformerAttention",
    "Restructurization",
    "SelfAttention",
    "SinusoidPositions",
    "SoftSplit",
    "SqueezeExcite",
    "T2TBlock",
    "TokenPooling",
]
