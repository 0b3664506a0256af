"""Deterministic weights in the published PyTorch checkpoint layout.

Every array is a pure function of its key and shape, so a checkpoint of any
T2T-ViT variant can be rebuilt anywhere without shipping it. `expected.npz`
holds what the authors' implementation computes with exactly these weights.
"""

import json
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def sinusoid_table(positions, dim):
    """The fixed sine/cosine table of `pos_embed`: float32, (1, positions, dim)."""
    angle = np.arange(positions)[:, None] / np.power(10000, 2 * (np.arange(dim)[None] // 2) / dim)
    angle[:, 0::2] = np.sin(angle[:, 0::2])
    angle[:, 1::2] = np.cos(angle[:, 1::2])
    return angle[None].astype("float32")


def reference_array(key, shape, salt=""):
    """The float32 array that stands at `key` of a reference checkpoint."""
    shape = tuple(shape)
    if key == "pos_embed":
        return sinusoid_table(shape[1], shape[2])
    rng = np.random.RandomState(zlib.crc32((salt + key).encode()))
    noise = rng.standard_normal(shape).astype("float32")
    name = key.rsplit(".", 1)[-1]
    if ".norm" in key or key.startswith("norm"):  # LayerNorm
        return 1 + 0.1 * noise if name == "weight" else 0.05 * noise
    if name == "w":  # the Performer's random features, N(0, 1) rows
        return noise
    if name == "bias":
        return 0.05 * noise
    if key == "cls_token":
        return 0.1 * noise
    fan_in = int(np.prod(shape[1:]))
    if len(shape) == 3:  # depthwise 1x1 convolution of the Ghost variant
        return 1 + 0.1 * noise
    return noise / np.sqrt(fan_in).astype("float32")


def reference_state_dict(variant, salt=""):
    """`{key: float32 array}` of one variant, in the published layout."""
    keys = json.loads((HERE / "spec.json").read_text())["variants"][variant]["keys"]
    return {key: reference_array(key, shape, salt) for key, shape in keys.items()}


def reference_images(batch, size, channels=3, seed=0):
    """float32 images (batch, size, size, channels), already normalised."""
    rng = np.random.RandomState(seed)
    coarse = rng.standard_normal((batch, 8, 8, channels))
    y = np.linspace(0, 7, size)
    lo = np.floor(y).astype(int).clip(0, 6)
    t = (y - lo)[:, None]
    rows = coarse[:, lo] * (1 - t[None, :, :, None]) + coarse[:, lo + 1] * t[None, :, :, None]
    t = t.T[None, :, :, None].transpose(0, 1, 2, 3)
    cols = rows[:, :, lo] * (1 - t) + rows[:, :, lo + 1] * t
    return (cols + 0.1 * rng.standard_normal(cols.shape)).astype("float32")
