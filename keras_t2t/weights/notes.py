"""Weights as arrays, and what is known of the model that they are of."""

import dataclasses
import json
import math
from pathlib import Path

import keras
import numpy as np

from keras_t2t.class_names import class_names
from keras_t2t.layers.head import model_class_names
from keras_t2t.limits import MOST_PIXELS
from keras_t2t.models.graph import token_grid
from keras_t2t.models.t2t_vit import SOFT_SPLITS
from keras_t2t.models.variants import VARIANTS
from keras_t2t.preprocessing import Preprocessing
from keras_t2t.preprocessing_layer import carried_preprocessing
from keras_t2t.weights.building import Network

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Notes:
    """What a file tells beside the values of its weights; `None` where it does not.

    Attributes:
        variant: str, the published name of the model's variant.
        input_shape: tuple `(height, width, channels)` of the model.
        grid: pair of ints, rows and columns of its patches.
        preprocessing: `Preprocessing` of its images.
        class_names: tuple of str, in the order of the head's outputs.
    """

    variant: str | None = None
    input_shape: Shape | None = None
    grid: Shape | None = None
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] | None = None

    @classmethod
    def of(cls, model: keras.Model, variant: str | None = None) -> "Notes":
        """What a model that `T2TViT` built tells."""
        return cls(
            variant,
            tuple(model.input_shape[1:]),
            token_grid(model),
            carried_preprocessing(model),
            model_class_names(model),
        )

    def to_json(self, **more) -> str:
        """The notes, and whatever else belongs to them, as a JSON text."""
        return json.dumps({**dataclasses.asdict(self), **more})

    @classmethod
    def from_json(cls, text: str, path: Path) -> "Notes":
        """The notes in a text that `to_json` wrote, here or in an earlier version.

        Raises:
            ValueError: they are of no use; the message names `path`.
        """
        try:
            values = json.loads(text)
            values = {field.name: values.get(field.name) for field in dataclasses.fields(cls)}
            if values["variant"] not in (None, *VARIANTS):
                raise ValueError("unknown variant")
            for name in ("input_shape", "grid", "class_names"):
                values[name] = values[name] and tuple(values[name])
            class_names(values["class_names"] or ())  # which refuses what is no name
            shape = values["input_shape"]
            if shape and (len(shape) != 3 or math.prod(shape) > 4 * MOST_PIXELS):
                raise ValueError(f"input_shape {shape}")
            if values["preprocessing"]:
                values["preprocessing"] = Preprocessing(**values["preprocessing"])
            return cls(**values)
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: its notes cannot be used ({error})") from None


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights on their way into a model.

    Attributes:
        name: str, what messages call them.
        arrays: dict `{published key: array}`.
        notes: `Notes`, whose `input_shape` is always known.
        fetched: the published file that they have just been read from, or None where there is
            nothing to convert.
    """

    name: str
    arrays: dict[str, np.ndarray]
    notes: Notes
    fetched: Path | None = None

    @property
    def classes(self) -> int | None:
        """Classes of their head, or `None` if they have no head."""
        shapes = [np.shape(self.arrays.get(key, 0)) for key in ("head.bias", "head.weight")]
        return next((shape[0] for shape in shapes if shape), None)


def infer_input_shape(
    name: str, positions: Shape, patch: Shape, build: Network, given: Shape | None = None
) -> Shape:
    """The input that weights without notes are of.

    Args:
        name: str, what messages call the weights.
        positions: shape `(1, tokens, channels)` of the table of positions.
        patch: shape `(values,)` of the first norm.
        build: `T2TViT` with arguments filled in.
        given: tuple `(height, width, channels)` that the caller asks for, or None.

    Returns:
        The published soft splits' input for a square grid of tokens; else `given`.

    Raises:
        ValueError: there is neither, or the weights have soft splits of their own, and `build` does
            not.
    """
    if "soft_splits" not in build.keywords:
        (kernel, _, _), *_ = SOFT_SPLITS
        channels, rest = divmod(patch[0], kernel**2)
        if rest:
            raise ValueError(
                f"{name} is of a model with other soft splits than the published: the first takes "
                f"patches of {patch[0]} values, expected {kernel**2} for each channel. "
                "keras_t2t.create takes its soft_splits and input_shape."
            )
        side = math.isqrt(max(0, positions[1] - 1))
        if side and side * side == positions[1] - 1:
            pixels = side * math.prod(stride for _, stride, _ in SOFT_SPLITS)
            return pixels, pixels, channels
    if given is None:
        raise ValueError(
            f"{name} does not tell the size of its images. Expected input_shape="
            "(height, width, channels), which keras_t2t.create takes, received None."
        )
    return given
