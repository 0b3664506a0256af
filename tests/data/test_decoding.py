"""Training decodes a file of any kind as prediction does."""

import io

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf
from PIL import Image

from keras_t2t.data.decoding import decode
from keras_t2t.image_files import load_image

pytestmark = pytest.mark.tensorflow

PHOTO = Image.fromarray(sklearn.datasets.load_sample_image("china.jpg")[:90, :121])
DEEP = np.arange(90 * 121, dtype="uint16").reshape(90, 121) * 6
TURNED = Image.Exif()
TURNED[0x0112] = 6

# Format, mode, options of `Image.save`.
KINDS = {
    "jpeg": ("JPEG", "RGB", {}),
    "jpeg, grey": ("JPEG", "L", {}),
    "jpeg, cmyk": ("JPEG", "CMYK", {}),
    "jpeg, progressive": ("JPEG", "RGB", {"progressive": True}),
    "jpeg, progressive cmyk": ("JPEG", "CMYK", {"progressive": True}),
    "jpeg, whole colours": ("JPEG", "RGB", {"subsampling": 0}),
    "jpeg, turned": ("JPEG", "RGB", {"exif": TURNED}),
    "jpeg, turned grey": ("JPEG", "L", {"exif": TURNED}),
    "png": ("PNG", "RGB", {}),
    "png, grey": ("PNG", "L", {}),
    "png, grey and alpha": ("PNG", "LA", {}),
    "png, alpha": ("PNG", "RGBA", {}),
    "png, palette": ("PNG", "P", {}),
    "png, palette with transparency": ("PNG", "P", {"transparency": 3}),
    "png, two colours": ("PNG", "1", {}),
    "png, 16 bits": ("PNG", "I;16", {}),
    "bmp": ("BMP", "RGB", {}),
    "bmp, palette": ("BMP", "P", {}),
    "gif": ("GIF", "P", {}),
    "gif, animated": ("GIF", "P", {"save_all": True, "append_images": [PHOTO.rotate(180)]}),
    "webp": ("WEBP", "RGB", {}),
    "webp, alpha": ("WEBP", "RGBA", {"lossless": True}),
    "webp, animated": ("WEBP", "RGB", {"save_all": True, "append_images": [PHOTO.rotate(180)]}),
    "tiff": ("TIFF", "RGB", {}),
    "tiff, 16 bits": ("TIFF", "I;16", {}),
    "tiff, packed": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
}


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_training_decodes_as_prediction_does(kind, channels):
    form, mode, options = KINDS[kind]
    image = Image.fromarray(DEEP) if mode == "I;16" else PHOTO.convert(mode)
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    content = io.BytesIO()
    image.save(content, form, **options)
    expected = load_image(content).convert("RGB" if channels == 3 else "L")
    expected = np.asarray(expected).reshape(*expected.size[::-1], channels)
    decoded = tf.data.Dataset.from_tensors(content.getvalue()).map(lambda x: decode(x, channels))
    (found,) = decoded.as_numpy_iterator()
    assert found.shape == expected.shape
    # libjpeg makes grey of its own luma, which is Pillow's grey of the colours but for rounding.
    rounding = 3 if form == "JPEG" and channels == 1 and mode == "RGB" else 0
    assert np.abs(found.astype(int) - expected).max() <= rounding
