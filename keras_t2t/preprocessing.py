"""Evaluation preprocessing: how an image becomes what a model's weights were trained to see."""

import dataclasses
import math
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

from keras_t2t.limits import MOST_PIXELS

if TYPE_CHECKING:
    import numpy as np

INTERPOLATIONS = ("bilinear", "bicubic")


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Resize, centre crop, normalise: what torchvision and timm do, on uint8 pixels with Pillow.

    The defaults are those of the published ImageNet models. Called with an image, it returns what
    a model takes, to the last bit of torchvision's result and the same on every backend:

        preprocessing = keras_t2t.model_preprocessing(model)
        model.predict(preprocessing("cat.jpg")[None])

    Args:
        height: Rows of the result.
        width: Columns of the result.
        mean: A number in 0..1 for each channel.
        std: A number in 0..1 for each channel.
        crop_fraction: Share of the resized image that the centre crop keeps: the image is resized,
            with its aspect ratio, until it just covers `floor(size / crop_fraction)`. `None`
            resizes straight to the size, without a crop, as for CIFAR.
        interpolation: `"bicubic"` or `"bilinear"`, both with antialiasing.

    Raises:
        ValueError: If an argument is out of range.

    Source: `_cfg` in `models/t2t_vit.py`; for CIFAR, `transfer_learning.py`.
    """

    height: int = 224
    width: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    crop_fraction: float | None = 0.9
    interpolation: str = "bicubic"

    def __post_init__(self):
        # A model file holds JSON, in which tuples become lists.
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        for name in ("height", "width"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a positive int, got {getattr(self, name)!r}")
        if self.height * self.width > MOST_PIXELS:
            raise ValueError(
                f"height: expected at most {MOST_PIXELS} pixels with `width`, "
                f"got {self.height} x {self.width}"
            )
        if not self.mean or not all(0 <= value <= 1 for value in self.mean):
            raise ValueError(f"mean: expected a value in 0..1 for each channel, got {self.mean}")
        if len(self.std) != len(self.mean) or not all(0 < value <= 1 for value in self.std):
            raise ValueError(
                f"std: expected {len(self.mean)} values above 0 and up to 1, got {self.std}"
            )
        if self.crop_fraction is not None and not 0 < self.crop_fraction <= 1:
            raise ValueError(
                "crop_fraction: expected None or a number above 0 and up to 1, "
                f"got {self.crop_fraction!r}"
            )
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation: expected one of {', '.join(INTERPOLATIONS)}, "
                f"got {self.interpolation!r}"
            )

    def __call__(self, image) -> "np.ndarray":
        """Prepares one image.

        Args:
            image: A path (see `load_image`), a `PIL.Image.Image`, or a uint8 array of shape
                (rows, columns) or (rows, columns, 1, 3 or 4).

        Returns:
            float32 NumPy array (height, width, channels), normalised.

        Raises:
            ValueError: If the image cannot be read or is none of the three.
        """
        if len(self.mean) not in (1, 3):
            raise ValueError(
                f"image: files give 1 or 3 channels, but the model takes {len(self.mean)}; "
                "use `normalize` on images of your own making"
            )
        # Here and below, because the command line reads recipes, which hold a `Preprocessing`, and
        # is to answer at once.
        import numpy as np
        from PIL import Image

        image = _pillow(image).convert("RGB" if len(self.mean) == 3 else "L")
        resampling = Image.Resampling[self.interpolation.upper()]
        if self.crop_fraction is None:
            image = image.resize((self.width, self.height), resampling)
        else:
            image = image.resize(self._covering(*image.size), resampling)
            # Half rounds to even, as in torchvision's CenterCrop.
            left = round((image.width - self.width) / 2)
            top = round((image.height - self.height) / 2)
            image = image.crop((left, top, left + self.width, top + self.height))
        return self.normalize(np.asarray(image).reshape(self.height, self.width, len(self.mean)))

    def normalize(self, images) -> Any:
        """Returns `(images / 255 - mean) / std` in float32.

        Args:
            images: Pixels in 0..255, (..., channels): a NumPy array, a tensor of any backend, a
                TensorFlow tensor whatever the backend (as in `tf.data`), or a symbolic tensor.

        Raises:
            ValueError: If the last axis is not the channels.
        """
        import numpy as np

        tensorflow = sys.modules.get("tensorflow")
        if isinstance(images, np.ndarray):
            _warn_unless_pixels(images)
            images, constant = images.astype("float32"), np.asarray
        elif tensorflow is not None and tensorflow.is_tensor(images):
            images, constant = tensorflow.cast(images, "float32"), tensorflow.constant
        else:
            import keras

            images, constant = keras.ops.cast(images, "float32"), keras.ops.convert_to_tensor
        if images.shape[-1] != len(self.mean):
            raise ValueError(
                f"images: expected shape (..., {len(self.mean)}), channels last, "
                f"got {tuple(images.shape)}"
            )
        mean, std = (np.asarray(values, "float32") for values in (self.mean, self.std))
        return (images / 255.0 - constant(mean)) / constant(std)

    def fitted(self, input_shape):
        """Returns the same preprocessing for images of another shape.

        Args:
            input_shape: Tuple `(height, width, channels)`. For another number of channels, mean and
                std are the averages over those there are.
        """
        height, width, channels = input_shape
        mean, std = self.mean, self.std
        if channels != len(mean):
            mean = (sum(mean) / len(mean),) * channels
            std = (sum(std) / len(std),) * channels
        return dataclasses.replace(self, height=height, width=width, mean=mean, std=std)

    def _covering(self, width, height):
        """Size that covers the uncropped target; for a square one as in torchvision's Resize."""
        fraction = self.crop_fraction or 1.0
        target_width = math.floor(self.width / fraction)
        target_height = math.floor(self.height / fraction)
        if width * target_height <= height * target_width:
            return target_width, int(target_width * height / width)
        return int(target_height * width / height), target_height


_CIFAR = Preprocessing(
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    crop_fraction=None,
    interpolation="bilinear",
)

# By the name of the published weights: main.py (timm's defaults) for ImageNet, transfer_learning.py
# for CIFAR. For the token-labeling model no other settings are known.
PREPROCESSING = {
    "imagenet": Preprocessing(),
    "imagenet384": Preprocessing(height=384, width=384),
    "imagenet_token_labeling": Preprocessing(),
    "cifar10": _CIFAR,
    "cifar100": _CIFAR,
}


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Normalises RGB images for the ImageNet weights, in the convention of `keras.applications`.

    It neither resizes nor crops. `model_preprocessing(model)` does, for whatever weights.

    Args:
        x: Pixels in 0..255, (..., 3), integers or floats: a NumPy array, a tensor or a symbolic
            tensor.
        data_format: `None` or `"channels_last"`.

    Returns:
        The normalised images in float32, of the kind that `x` is; `x` is left as it was.

    Raises:
        ValueError: If `data_format` is `"channels_first"`, or `x` has other than 3 channels.
    """
    if data_format not in (None, "channels_last"):
        raise ValueError(f'data_format: expected None or "channels_last", got {data_format!r}')
    return PREPROCESSING["imagenet"].normalize(x)


def _pillow(image):
    import numpy as np
    from PIL import Image

    from keras_t2t.image_files import eight_bits, load_image

    if isinstance(image, (str, os.PathLike)):
        return load_image(image)
    if isinstance(image, Image.Image) and all(image.size):
        return eight_bits(image)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size:
        if image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4)):
            return Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
    got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise ValueError(
        "image: expected a path, a Pillow image or a uint8 array (rows, columns[, 1, 3 or 4]), of "
        f"at least one pixel, got {got}"
    )


def _warn_unless_pixels(images):
    """0..1 in place of 0..255 gives no error, but no accuracy either."""
    if images.dtype.kind == "f" and images.size and 0 < abs(images).max() <= 3:
        warnings.warn(
            f"images: expected pixels in 0..255, but none is above {abs(images).max():.3g}; "
            "are they in 0..1, or normalised already?",
            stacklevel=3,
        )
