"""The published training augmentation, as numbers."""

import dataclasses
import math

from keras_t2t.validation import fields

INTERPOLATIONS = ("bilinear", "bicubic", "random")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What training does to images and labels. The defaults are the published ImageNet recipe.

    For small images set `crop_area=None` and `padding` to an eighth of the image's size.

    Args:
        crop_area: Share of the image's area that the random crop covers, drawn between the two
            floats; `None` takes the whole image.
        crop_ratio: Width over height of the random crop, drawn log-uniformly between the two.
        interpolation: Of the resize: "bilinear", "bicubic", or "random", one of both per image.
        padding: Int, black pixels added on every side of the resized image before a crop back to
            its size at a random place.
        flip: Probability of mirroring left and right.
        randaugment_draws: Int, operations drawn for an image, with replacement; 0 turns it off.
        randaugment_probability: Probability that a drawn operation is applied.
        randaugment_magnitude: Mean strength of an operation, of 10.
        randaugment_std: Standard deviation of the strength.
        erasing: Probability that a rectangle becomes noise.
        erasing_area: Share of the image that the rectangle covers, drawn between the two floats.
        erasing_ratio: Height over width of the rectangle, drawn log-uniformly between the two.
        mixup: Alpha of Mixup's Beta(alpha, alpha); 0 turns it off.
        cutmix: Alpha of CutMix's Beta(alpha, alpha); 0 turns it off.
        mix_probability: Probability that a batch is mixed at all.
        switch_probability: Probability of CutMix where a batch is mixed and both are on.
        label_smoothing: Share of the label that is spread evenly over all classes.

    Raises:
        ValueError: If a value is out of range.

    Source: `main.py` of the published implementation and timm 0.3.4, whose defaults it takes.
    """

    crop_area: tuple[float, float] | None = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: str = "random"
    padding: int = 0
    flip: float = 0.5
    randaugment_draws: int = 2
    randaugment_probability: float = 0.5
    randaugment_magnitude: float = 9.0
    randaugment_std: float = 0.5
    erasing: float = 0.25
    erasing_area: tuple[float, float] = (0.02, 1 / 3)
    erasing_ratio: tuple[float, float] = (0.3, 1 / 0.3)
    mixup: float = 0.8
    cutmix: float = 1.0
    mix_probability: float = 1.0
    switch_probability: float = 0.5
    label_smoothing: float = 0.1

    def __post_init__(self):
        areas = ("erasing_area",) if self.crop_area is None else ("crop_area", "erasing_area")
        ratios = ("crop_ratio", "erasing_ratio")
        fields(self, "two rising numbers above 0 and up to 1", _rising(1), *areas)
        fields(self, "two rising numbers above 0", _rising(math.inf), *ratios)
        for name in (*areas, *ratios):  # YAML holds lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        shares = ("mix_probability", "switch_probability", "label_smoothing")
        shares = ("flip", "randaugment_probability", "erasing", *shares)
        fields(self, "a number in 0..1", lambda value: 0 <= value <= 1, *shares)
        strengths = ("randaugment_magnitude", "randaugment_std", "mixup", "cutmix")
        fields(self, "at least 0", lambda value: value >= 0, *strengths)
        counts = ("padding", "randaugment_draws")
        fields(self, "an int of at least 0", lambda n: isinstance(n, int) and n >= 0, *counts)
        kinds = f"one of {', '.join(INTERPOLATIONS)}"
        fields(self, kinds, lambda value: value in INTERPOLATIONS, "interpolation")


def _rising(top):
    return lambda bounds: len(bounds) == 2 and 0 < bounds[0] <= bounds[1] <= top
