"""Channels that carry no information about an image."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from keras_t2t.inspection.text import text_table

KINDS = ("zero", "constant", "fixed")


@dataclasses.dataclass(frozen=True)
class DeadChannels:
    """The dead channels of some layers.

    Attributes:
        kinds: dict from the name of a layer to an array of strings (channels,): `"zero"`,
            `"constant"` (one value in all places of all images), `"fixed"` (the same map for every
            image) or `""` for a channel that is alive.
    """

    kinds: dict[str, np.ndarray]

    def mask(self, layer: str) -> np.ndarray:
        """Bool array (channels,): the dead channels of a layer."""
        return self.kinds[layer] != ""

    @property
    def rows(self) -> list[dict]:
        """A dict for each layer: layer, channels, zero, constant, fixed and, all three, dead."""
        return [
            {"layer": layer, "channels": len(kinds)}
            | {kind: int((kinds == kind).sum()) for kind in KINDS}
            | {"dead": int(self.mask(layer).sum())}
            for layer, kinds in self.kinds.items()
        ]

    def table(self) -> str:
        """The rows as text, with the share of dead channels."""
        return text_table(
            [row | {"share": f"{row['dead'] / row['channels']:.1%}"} for row in self.rows]
        )


def dead_channels(maps: Mapping[str, np.ndarray], tolerance: float = 0.01) -> DeadChannels:
    """Finds the channels that are zero, or do not vary, over a set of images.

    No channel of a residual stream is zero or constant to the last digit, so what is small beside
    the layer's stronger channels counts as nothing. Of the standard deviations of all channels over
    images and places, the 90th percentile is taken, which neither many dead channels nor a few of
    huge values move; the limit is `tolerance` times that. A channel is

    - zero, if its largest absolute value is at most the limit;
    - constant, if its standard deviation over images and places is;
    - fixed, if its standard deviation over images, root mean square over the places, is: it may
      show a pattern, such as the positions', but the same for every image. Of a single image this
      cannot be told.

    Args:
        maps: Dict from the name of a layer to its activations `(images, ..., channels)`, as
            `feature_maps` returns. The more images, the surer the count.
        tolerance: Float, at least 0. Defaults to 0.01. With 0, exactly zero, constant or fixed.

    Returns:
        A `DeadChannels`.

    Raises:
        ValueError: If `tolerance` is negative.

    Source: figure 2 of the paper marks channels of zero value in ViT; it names no threshold.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance: expected at least 0, got {tolerance!r}")
    kinds = {}
    for layer, values in maps.items():
        values = np.asarray(values)
        everywhere = tuple(range(values.ndim - 1))
        deviation = _deviation(values, everywhere)
        limit = tolerance * np.percentile(deviation, 90)
        kinds[layer] = np.full(values.shape[-1], "", dtype="<U8")
        if len(values) > 1:
            over_images = np.sqrt(np.square(_deviation(values, 0)).mean(axis=everywhere[:-1]))
            kinds[layer][over_images <= limit] = "fixed"
        kinds[layer][deviation <= limit] = "constant"
        kinds[layer][np.abs(values).max(axis=everywhere) <= limit] = "zero"
    return DeadChannels(kinds)


def _deviation(values, axes):
    """Standard deviation; of equal numbers it is 0, without the rounding of their mean."""
    first = values[(slice(0, 1),) * (len(axes) if isinstance(axes, tuple) else 1)]
    return (values - first).std(axis=axes, dtype="float64")
