"""What the published implementation computes, and the weights and images it took."""

import json
from pathlib import Path

import numpy as np

from tests.fixtures.reference_weights import reference_images, reference_state_dict

__all__ = [
    "EVERY_BACKEND_VARIANTS",
    "SPEC",
    "VARIANTS",
    "expected",
    "images",
    "reference_images",
    "reference_state_dict",
]

DATA = Path(__file__).parent / "fixtures"
SPEC = json.loads((DATA / "spec.json").read_text())
VARIANTS = tuple(SPEC["variants"])
# One of each kind, for the backends where all 14 would take too long.
EVERY_BACKEND_VARIANTS = (
    "t2t_vit_7",
    "t2t_vit_t_14",
    "t2t_vit_14_se",
    "t2t_vit_16_ghost",
    "t2t_vit_dense",
)


def expected(name):
    """The published array of that name, such as `t2t_vit_7/logits`."""
    with np.load(DATA / "expected.npz") as arrays:
        return arrays[name]


def images():
    """The two 224 px images (NHWC, normalised) that the logits and features were computed on."""
    return reference_images(SPEC["images"]["batch"], SPEC["images"]["size"])
