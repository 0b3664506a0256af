"""Evaluation preprocessing against NumPy, Keras and the published settings."""

import dataclasses
import math
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import keras_t2t
from keras_t2t.preprocessing import Preprocessing, preprocess_input
from keras_t2t.preprocessing_layer import PreprocessedImages, model_preprocessing

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photo(name, upright):
    image = Image.open(PHOTOS / name).convert("RGB")
    return image if upright == "landscape" else image.transpose(Image.Transpose.ROTATE_90)


def cubic(x):
    """Keys' kernel with a = -0.5."""
    x = np.abs(x)
    inner, outer = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, inner, np.where(x < 2, outer, 0.0))


def triangle(x):
    return np.maximum(1 - np.abs(x), 0)


def numpy_resize(pixels, height, width, kernel):
    """Antialiased resize: columns first, then rows, each rounded to 8 bits."""
    pixels = pixels.astype("float64")
    for axis, size in ((1, width), (0, height)):
        old = pixels.shape[axis]
        centers = (np.arange(size)[:, None] + 0.5) * old / size - 0.5
        weights = kernel((np.arange(old) - centers) / max(old / size, 1))
        weights /= weights.sum(axis=1, keepdims=True)
        pixels = np.moveaxis(np.tensordot(weights, pixels, (1, axis)), 0, axis)
        pixels = np.clip(np.rint(pixels), 0, 255)
    return pixels


def numpy_evaluation(image, size, kernel):
    """torchvision's Resize(floor(size / 0.9)) and CenterCrop(size)."""
    short = math.floor(size / 0.9)
    if image.width <= image.height:
        width, height = short, int(short * image.height / image.width)
    else:
        width, height = int(short * image.width / image.height), short
    pixels = numpy_resize(np.asarray(image), height, width, kernel)
    top, left = int(round((height - size) / 2)), int(round((width - size) / 2))
    return pixels[top : top + size, left : left + size]


@pytest.mark.parametrize("upright", ["landscape", "portrait"])
@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("weights", ["imagenet", "imagenet384", "cifar10"])
def test_photographs_equal_numpy(weights, name, upright):
    image = photo(name, upright)
    if weights == "cifar10":
        expected = numpy_resize(np.asarray(image), 224, 224, triangle)
        mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    else:
        expected = numpy_evaluation(image, 384 if weights == "imagenet384" else 224, cubic)
        mean, std = MEAN, STD

    result = model_preprocessing(weights)(image)

    assert result.dtype == np.float32
    assert result.shape == expected.shape
    error = np.abs((result * std + mean) * 255 - expected)
    # Of 255. Which axis Pillow resizes first depends on its release and the sizes: up to 0.14.
    assert error.mean() < 0.2
    assert error.max() < 2.01


def test_path_image_and_array_are_one():
    preprocessing = model_preprocessing("imagenet")
    image = photo("china.jpg", "landscape")
    expected = preprocessing(image)
    np.testing.assert_array_equal(preprocessing(PHOTOS / "china.jpg"), expected)
    np.testing.assert_array_equal(preprocessing(str(PHOTOS / "china.jpg")), expected)
    np.testing.assert_array_equal(preprocessing(np.asarray(image)), expected)


@settings(max_examples=60, deadline=None)
@given(
    image=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    target=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    crop_fraction=st.sampled_from([None, 0.5, 0.875, 0.9, 1.0]),
)
def test_any_size_is_covered(image, target, crop_fraction):
    """A crop that reached over the edge of the resized image would bring black in."""
    preprocessing = Preprocessing(*target, crop_fraction=crop_fraction)
    result = preprocessing(np.full((*image, 3), 255, "uint8"))
    white = (1 - np.array(MEAN)) / STD
    np.testing.assert_allclose(result, np.broadcast_to(white, (*target, 3)), rtol=1e-6)


def test_a_crop_keeps_the_aspect_ratio():
    """A circle stays one in a rectangular target."""
    rows, columns = np.ogrid[:200, :300]
    circle = (rows - 100) ** 2 + (columns - 150) ** 2 < 60**2
    result = Preprocessing(90, 180)(np.uint8(circle * 255))[..., 0] > 0
    height, width = np.ptp(np.argwhere(result), axis=0) + 1
    assert abs(height - width) <= 1


def test_one_channel():
    preprocessing = model_preprocessing("imagenet", input_shape=(32, 48, 1))
    assert preprocessing.mean == pytest.approx((sum(MEAN) / 3,))
    result = preprocessing(np.full((60, 60, 3), 51, "uint8"))
    assert result.shape == (32, 48, 1)
    np.testing.assert_allclose(result, (0.2 - sum(MEAN) / 3) / (sum(STD) / 3), rtol=1e-5)


def test_published_settings():
    """Those of timm 0.3.4 with the published `_cfg`, and of the published transfer_learning.py."""
    imagenet = Preprocessing(224, 224, MEAN, STD, 0.9, "bicubic")
    cifar = Preprocessing(
        224, 224, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), None, "bilinear"
    )
    assert model_preprocessing("imagenet") == imagenet
    assert model_preprocessing("imagenet_token_labeling") == imagenet
    assert model_preprocessing("imagenet384") == dataclasses.replace(
        imagenet, height=384, width=384
    )
    assert model_preprocessing("cifar10") == model_preprocessing("cifar100") == cifar


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"height": 0}, r"height: expected a positive int, got 0"),
        ({"width": 22.4}, r"width: expected a positive int, got 22.4"),
        ({"mean": (123.7, 116.3, 103.5)}, r"mean: expected a value in 0..1 .* got \(123.7"),
        ({"std": (0.2, 0.2)}, r"std: expected 3 values above 0 and up to 1, got \(0.2, 0.2\)"),
        ({"std": (0.2, 0.2, 0)}, r"std: expected 3 values above 0"),
        ({"crop_fraction": 0}, r"crop_fraction: expected None or .* got 0"),
        ({"crop_fraction": 1.1}, r"crop_fraction: expected None or .* got 1.1"),
        ({"interpolation": "cubic"}, r"interpolation: expected one of bilinear, bicubic, got 'cub"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**arguments)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 3), "float32"), r"got float32 \(8, 8, 3\)"),
        (np.zeros((8, 8, 2), "uint8"), r"got uint8 \(8, 8, 2\)"),
        (np.zeros((1, 8, 8, 3), "uint8"), r"got uint8 \(1, 8, 8, 3\)"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_image(image, message):
    with pytest.raises(ValueError, match=f"image: expected a path, .*{message}"):
        Preprocessing()(image)


def test_files_have_no_five_channels():
    preprocessing = model_preprocessing("imagenet", input_shape=(8, 8, 5))
    with pytest.raises(ValueError, match="files give 1 or 3 channels, but the model takes 5"):
        preprocessing(np.zeros((8, 8, 3), "uint8"))


class TestPreprocessInput:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype="uint8")

    @pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64"])
    def test_arrays_as_keras_applications(self, dtype):
        given = self.pixels.astype(dtype)
        result = preprocess_input(given)
        expected = keras.applications.imagenet_utils.preprocess_input(
            self.pixels.astype("float64"), data_format="channels_last", mode="torch"
        )
        assert isinstance(result, np.ndarray)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, atol=1e-6)
        np.testing.assert_array_equal(given, self.pixels)

    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    def test_tensors(self, dtype):
        result = preprocess_input(keras.ops.convert_to_tensor(self.pixels, dtype))
        assert keras.ops.is_tensor(result)
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(result), preprocess_input(self.pixels), atol=1e-6
        )

    def test_symbolic(self):
        inputs = keras.Input((5, 4, 3))
        model = keras.Model(inputs, preprocess_input(inputs))
        np.testing.assert_allclose(
            model.predict(self.pixels, verbose=0), preprocess_input(self.pixels), atol=1e-6
        )

    def test_tf_data_on_any_backend(self):
        import tensorflow as tf

        dataset = tf.data.Dataset.from_tensors(self.pixels).map(preprocess_input)
        result = next(dataset.as_numpy_iterator())
        np.testing.assert_allclose(result, preprocess_input(self.pixels), atol=1e-6)

    def test_channels_first(self):
        with pytest.raises(ValueError, match='data_format: expected None or "channels_last"'):
            preprocess_input(self.pixels, data_format="channels_first")
        with pytest.raises(ValueError, match=r"images: expected shape \(..., 3\), channels last"):
            preprocess_input(self.pixels.transpose(0, 3, 1, 2))

    @pytest.mark.parametrize("wrong", [pixels / 255, preprocess_input(pixels)])
    def test_warns_of_the_wrong_range(self, wrong):
        with pytest.warns(UserWarning, match="expected pixels in 0..255, but none is above"):
            preprocess_input(wrong)

    @pytest.mark.filterwarnings("error")
    def test_black_is_no_reason_to_warn(self):
        preprocess_input(np.zeros((4, 4, 3)))


class TestCarried:
    """A model tells how its images must be prepared, wherever it goes."""

    cifar = Preprocessing(
        16, 24, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), None, "bilinear"
    )

    def model(self, preprocessing=cifar, name="small"):
        inputs = keras.Input((preprocessing.height, preprocessing.width, len(preprocessing.mean)))
        x = PreprocessedImages(preprocessing, name="preprocessing")(inputs)
        x = keras.layers.Conv2D(2, 3, name="convolution")(x)
        return keras.Model(
            inputs, keras.layers.Dense(3, name="head")(keras.layers.Flatten()(x)), name=name
        )

    def test_through_a_file(self, tmp_path):
        model = self.model()
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
        assert model_preprocessing(loaded) == self.cifar
        images = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype("float32")
        np.testing.assert_array_equal(
            loaded.predict(images, verbose=0), model.predict(images, verbose=0)
        )

    def test_through_a_clone_a_part_and_a_larger_model(self):
        model = self.model()
        assert model_preprocessing(keras.models.clone_model(model)) == self.cifar
        part = keras.Model(model.input, model.get_layer("convolution").output)
        assert model_preprocessing(part) == self.cifar
        larger = keras.Sequential([keras.Sequential([model]), keras.layers.Dense(2)])
        assert model_preprocessing(larger) == self.cifar

    def test_may_be_replaced(self, tmp_path):
        model = self.model()
        model.get_layer("preprocessing").preprocessing = Preprocessing(16, 24)
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert model_preprocessing(loaded) == Preprocessing(16, 24)

    def test_leaves_images_as_they_are(self):
        images = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype("float32")
        layer = PreprocessedImages(self.cifar, dtype="mixed_float16")
        result = layer(keras.ops.convert_to_tensor(images))
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(result), images)

    def test_size_and_channels_must_be_the_models(self):
        for shape in ((224, 224, 3), (16, 24, 1)):
            with pytest.raises(ValueError, match=r"images of shape .*got \(16, 24, 3\)"):
                PreprocessedImages(self.cifar)(keras.Input(shape))

    def test_in_the_graph(self):
        small = {"token_dim": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "classes": 4}
        model = keras_t2t.T2TViT((32, 48, 1), preprocessing="cifar10", **small)
        expected = model_preprocessing("cifar10", input_shape=(32, 48, 1))
        assert model_preprocessing(model) == expected
        own = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop_fraction=None)
        model = keras_t2t.T2TViT((32, 48, 3), preprocessing=own, **small)
        assert model_preprocessing(model) == dataclasses.replace(own, height=32, width=48)
        with pytest.raises(ValueError, match="'T2T': expected one .* got none. T2TViT.*puts one"):
            model_preprocessing(keras_t2t.T2TViT((32, 48, 3), name="T2T", **small))
        with pytest.raises(ValueError, match="`preprocessing` must be one of 'imagenet', "):
            keras_t2t.T2TViT((32, 48, 3), preprocessing="mnist", **small)

    def test_of_the_factories(self):
        small = {"depth": 1, "input_shape": (32, 32, 3)}
        imagenet = model_preprocessing("imagenet", (32, 32, 3))
        assert model_preprocessing(keras_t2t.T2TViT7(**small)) == imagenet
        inputs = keras.Input((32, 32, 3))
        assert model_preprocessing(keras_t2t.T2TViT7(depth=1, input_tensor=inputs)) == imagenet
        # What comes out of a layer is not what goes into the model.
        scaled = keras.layers.Rescaling(1 / 255)(inputs)
        for model in (
            keras_t2t.T2TViT7(depth=1, input_tensor=scaled),
            keras_t2t.T2TViT7(preprocessing=None, **small),
        ):
            with pytest.raises(ValueError, match="got none"):
                model_preprocessing(model)

    def test_none_or_several(self):
        plain = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()], name="plain")
        with pytest.raises(ValueError, match="'plain': expected one PreprocessedImages.* got none"):
            model_preprocessing(plain)
        models = self.model(), self.model(Preprocessing(16, 24), name="other")
        both = keras.Model([m.input for m in models], [m(m.input) for m in models])
        with pytest.raises(ValueError, match="got several that differ"):
            model_preprocessing(both)

    def test_names_that_are_none(self):
        with pytest.raises(ValueError, match="one of imagenet, imagenet384, .*got 'imagenet21k'"):
            model_preprocessing("imagenet21k")
        with pytest.raises(ValueError, match="input_shape: expected None with a model"):
            model_preprocessing(self.model(), input_shape=(16, 24, 3))
