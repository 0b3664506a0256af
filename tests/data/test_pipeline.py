"""Training and evaluation batches: their order, content and bad images."""

import itertools
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_t2t.data import tfds_sources
from keras_t2t.data.augment import Augmentation
from keras_t2t.data.decoding import BadImageError, naming_bad_images
from keras_t2t.data.pipeline import evaluation_batches, training_batches
from keras_t2t.data.sources import open_source
from keras_t2t.preprocessing import Preprocessing

SMALL = Preprocessing(8, 8, (0.5,) * 3, (0.25,) * 3, crop_fraction=None, interpolation="bilinear")
GREY = Preprocessing(8, 8, (0.5,), (0.25,), crop_fraction=None)
NOTHING = Augmentation(
    crop_area=None,
    interpolation="bilinear",
    flip=0.0,
    randaugment_draws=0,
    erasing=0.0,
    mixup=0.0,
    cutmix=0.0,
    label_smoothing=0.0,
)


def numbered(number):
    """Images whose pixels tell which they are; label: the number modulo 5."""
    images = np.arange(number, dtype="uint8")[:, None, None, None] * np.ones((8, 8, 1), "uint8")
    return images, np.arange(number) % 5


def batches(source, augmentation, number, start=0, size=8, seed=3, **arguments):
    arguments = {"preprocessing": GREY, **arguments}
    result = training_batches(source, augmentation, size, seed, start, **arguments)
    return [(images.numpy(), labels.numpy()) for images, labels in result.take(number)]


def numbers(batch):
    """Which images of `numbered` a batch holds."""
    return np.rint((batch[0][:, 0, 0, 0] * 0.25 + 0.5) * 255).astype(int)


def assert_equal(first, second):
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """JPEG, PNG, BMP, GIF and WebP files of random noise, colour and grey."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    suffixes = [".JPEG", ".jpg", ".png", ".bmp", ".gif", ".webp"]
    for split, class_name in itertools.product(("train", "val"), ("ant", "bee")):
        (folder / split / class_name).mkdir(parents=True)
        for place, suffix in enumerate(suffixes):
            pixels = np.kron(rng.integers(0, 256, (5, 6, 3), "uint8"), np.ones((4, 4, 1), "uint8"))
            image = Image.fromarray(pixels).convert("L" if place == 1 else "RGB")
            image.save(folder / split / class_name / f"{place}{suffix}", lossless=True)
    return folder


@pytest.fixture(scope="module")
def stream():
    """The bundled Fashion-MNIST subset, read as if it did not fit into memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds_sources, "IN_MEMORY_BYTES", 0)
        patch.setattr(tfds_sources, "SHUFFLE_BUFFER", 300)
        yield open_source("examples/data/fashion_mnist_subset/1.0.0", "validation")


@pytest.mark.tensorflow
def test_an_epoch_is_a_permutation_without_its_rest():
    source = open_source(numbered(43), "train")
    found = batches(source, NOTHING, 15)
    epochs = [np.concatenate([numbers(b) for b in found[i : i + 5]]) for i in (0, 5, 10)]
    for epoch in epochs:
        assert len(set(epoch)) == 40
    assert not np.array_equal(epochs[0], epochs[1])
    # What is left out differs, too.
    assert len({*epochs[0], *epochs[1], *epochs[2]}) > 40
    for images, labels in found:
        np.testing.assert_array_equal(labels.argmax(-1), numbers((images,)) % 5)
        assert images.dtype == labels.dtype == np.float32
    other = np.concatenate([numbers(b) for b in batches(source, NOTHING, 5, seed=4)])
    assert not np.array_equal(epochs[0], other)


@pytest.mark.tensorflow
def test_the_order_is_well_mixed():
    """No place of the order prefers images, and neighbours do not stay together."""
    source = open_source(numbered(250), "train")
    found = batches(source, NOTHING, 40, size=250)
    orders = np.array([numbers(batch) for batch in found])
    # Means of 40 uniform draws; 250 of them, so up to 4.5 standard deviations.
    assert np.abs(orders.mean(0) - 124.5).max() < 4.5 * 72.2 / 40**0.5
    steps = np.abs(np.diff(orders, axis=1))
    # The distance of two random places is (n + 1) / 3 in the mean.
    assert steps.mean() == pytest.approx(251 / 3, rel=0.02)
    assert np.mean(steps == 1) == pytest.approx(2 / 250, abs=0.004)


@pytest.mark.tensorflow
@pytest.mark.parametrize("kind", ["arrays", "folder", "stream"])
def test_starting_later_changes_nothing(kind, folder, stream):
    source = {
        "arrays": lambda: open_source(numbered(43), "train"),
        "folder": lambda: open_source(folder, "train"),
        "stream": lambda: stream,
    }[kind]()
    # Two steps an epoch, so that the last of four batches lies within the second.
    size = {"arrays": 20, "folder": 6, "stream": 1000}[kind]
    # RandAugment takes TensorFlow seconds to trace: once is enough.
    augmentation = Augmentation(randaugment_draws=int(kind == "folder"))
    preprocessing = SMALL if kind == "folder" else GREY
    settings = {"size": size, "preprocessing": preprocessing}
    whole = batches(source, augmentation, 4, **settings)
    assert_equal(whole, batches(source, augmentation, 4, **settings))
    assert_equal(whole[3:], batches(source, augmentation, 1, 3, **settings))
    assert not np.array_equal(whole[0][0], whole[-1][0])


@pytest.mark.tensorflow
def test_hosts_and_devices_share_a_batch():
    """Two hosts with two devices each see what one host with four does, mixing included."""
    source = open_source(numbered(43), "train")
    augmentation = Augmentation(randaugment_draws=1)
    whole = batches(source, augmentation, 6, devices=4)
    parts = [batches(source, augmentation, 6, devices=2, shard=(index, 2)) for index in range(2)]
    joined = [
        tuple(np.concatenate(arrays) for arrays in zip(*pair, strict=True))
        for pair in zip(*parts, strict=True)
    ]
    assert_equal(whole, joined)
    # One lambda for each device's batch: the second largest label is the same share.
    shares = [np.sort(labels, axis=-1)[:, -2].reshape(4, 2) for _, labels in whole]
    assert any(np.ptp(share) > 0.01 for share in shares)


@pytest.mark.tensorflow
def test_hosts_share_a_stream(stream):
    """No example comes twice in an epoch."""
    seen = [
        images.tobytes()
        for index in range(3)
        for batch in batches(stream, NOTHING, 2, size=999, shard=(index, 3))
        for images in batch[0]
    ]
    everything = {
        images.tobytes() for batch in batches(stream, NOTHING, 2, size=1000) for images in batch[0]
    }
    # The subset itself holds no image twice.
    assert len(everything) == 2000
    assert len(seen) == len(set(seen)) == 1998


@pytest.mark.tensorflow
def test_whole_images_arrive_normalised(folder):
    source = open_source(folder, "train")
    expected = {}
    for label, name in enumerate(source.class_names):
        for path in sorted((folder / "train" / name).iterdir()):
            image = Image.open(path).convert("RGB").resize((8, 8), Image.Resampling.BILINEAR)
            expected[path] = (np.asarray(image) / 255 - 0.5) / 0.25, label
    (found,) = batches(source, NOTHING, 1, size=12, preprocessing=SMALL)
    for image, label in zip(*found, strict=True):
        errors = {path: np.abs(image - pixels).max() for path, (pixels, _) in expected.items()}
        best = min(errors, key=errors.get)
        # A step of 255 is 0.0157: resizing may round to the next, JPEG decoders agree.
        assert errors[best] < 0.04, best
        assert label.argmax() == expected.pop(best)[1]
    assert not expected


@pytest.mark.tensorflow
def test_upright_as_the_camera_was_held(tmp_path):
    """A JPEG with EXIF orientation is turned, as `load_image` turns it."""
    pixels = np.zeros((16, 16, 3), "uint8")
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: the top becomes the right
    (tmp_path / "train" / "one").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "train" / "one" / "a.jpg", exif=exif, quality=100)
    source = open_source(tmp_path, "train")
    ((images, _),) = batches(source, NOTHING, 1, size=1, preprocessing=SMALL)
    assert images[0, :, 5:].min() > 1.9 and images[0, :, :3].max() < -1.9
    evaluated, _ = next(iter(evaluation_batches(source, SMALL, 1)))
    assert np.abs(evaluated - images).max() < 0.04


@pytest.mark.tensorflow
def test_evaluation_is_the_preprocessing(folder, stream):
    preprocessing = Preprocessing(10, 12)
    source = open_source(folder, "validation")
    found = list(evaluation_batches(source, preprocessing, 5))
    assert [len(labels) for _, labels in found] == [5, 5, 2]
    paths = sorted((folder / "val").rglob("*.*"))
    expected = np.stack([preprocessing(path) for path in paths])
    np.testing.assert_array_equal(np.concatenate([images for images, _ in found]), expected)
    assert np.concatenate([labels for _, labels in found]).tolist() == [0] * 6 + [1] * 6

    shards = [evaluation_batches(source, preprocessing, 5, shard=(index, 2)) for index in (0, 1)]
    alternating = [np.concatenate([images for images, _ in shard]) for shard in shards]
    np.testing.assert_array_equal(alternating[1], expected[1::2])

    in_memory = open_source("examples/data/fashion_mnist_subset/1.0.0", "validation")
    for one, other in zip(
        evaluation_batches(in_memory, GREY, 1500),
        evaluation_batches(stream, GREY, 1500),
        strict=True,
    ):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])


@pytest.fixture
def broken(folder, tmp_path):
    """The folder with a truncated JPEG, a text, an empty file and a link to nowhere."""
    copy = tmp_path / "broken"
    shutil.copytree(folder, copy)
    photo = copy / "train" / "ant" / "0.JPEG"
    photo.write_bytes(photo.read_bytes()[:-200])
    (copy / "train" / "bee" / "2.png").write_text("no image")
    (copy / "train" / "bee" / "3.bmp").write_bytes(b"")
    (copy / "train" / "bee" / "4.gif").unlink()
    (copy / "train" / "bee" / "4.gif").symlink_to("nowhere.gif")
    names = ("2.png", "3.bmp", "4.gif")
    return copy, {str(photo), *(str(copy / "train" / "bee" / name) for name in names)}


@pytest.mark.tensorflow
def test_a_bad_image_is_named(broken):
    folder, bad = broken
    source = open_source(folder, "train")
    with pytest.raises(BadImageError) as error, naming_bad_images():
        batches(source, NOTHING, 1, size=12, preprocessing=SMALL)
    message = str(error.value)
    assert "\n" not in message
    assert any(message.startswith(f"{path}: ") for path in bad)
    with pytest.raises(BadImageError, match="0.JPEG: .*truncated"), naming_bad_images():
        list(evaluation_batches(source, SMALL, 12))


@pytest.mark.tensorflow
def test_bad_images_are_skipped_and_listed(broken):
    folder, bad = broken
    source = open_source(folder, "train")
    settings = {"size": 12, "preprocessing": SMALL, "bad_images": "skip"}
    found = batches(source, NOTHING, 2, **settings)
    assert set(source.skipped) == bad
    assert all(source.skipped.values())
    link = str(folder / "train" / "bee" / "4.gif")
    assert source.skipped[link] == "cannot be read as an image (No such file or directory)"
    assert_equal(found, batches(source, NOTHING, 2, **settings))
    for images, _ in found:
        # Four of twelve are replaced by the next in the batch.
        assert len({image.tobytes() for image in images}) == 8
        followers = np.roll(images, -1, axis=0)
        assert sum(map(np.array_equal, images, followers)) == 4

    source = open_source(folder, "train")
    images = [len(labels) for _, labels in evaluation_batches(source, SMALL, 8, bad_images="skip")]
    assert images == [8]
    assert set(source.skipped) == bad


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"size": 44}, "batch_size: expected at most the 43 images of arrays, got 44"),
        ({"devices": 3}, "multiple of 1 host.s. x 3 device.s., got 8"),
        ({"shard": (2, 2)}, "shard: expected"),
        ({"bad_images": "hide"}, "bad_images: expected one of error, skip, got 'hide'"),
        ({"preprocessing": Preprocessing(8, 8, (0.5,) * 2, (0.5,) * 2)}, "got 2 and arrays"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        batches(open_source(numbered(43), "train"), NOTHING, 1, **arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"crop_area": (0.5, 1.5)}, "crop_area: expected two rising numbers"),
        ({"erasing_ratio": (3.0, 0.3)}, "erasing_ratio: expected two rising numbers above 0, got"),
        ({"flip": 1.5}, "flip: expected a number in 0..1, got 1.5"),
        ({"mixup": -0.1}, "mixup: expected at least 0, got -0.1"),
        ({"padding": 1.5}, "padding: expected an int of at least 0, got 1.5"),
        ({"interpolation": "area"}, "interpolation: expected one of bilinear, bicubic, random"),
    ],
)
def test_wrong_augmentation(arguments, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**arguments)


@pytest.mark.slow
def test_every_backend_learns_from_it():
    """On JAX and torch TensorFlow only feeds: a linear model tells dark from bright images."""
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 2
    images = rng.integers(0, 100, (64, 8, 8, 1)) + 150 * labels[:, None, None, None]
    source = open_source((images.astype("uint8"), labels), "train")
    data = training_batches(source, Augmentation(randaugment_draws=0), 16, 0, preprocessing=GREY)
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(inputs)))
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    model.fit(data, epochs=10, steps_per_epoch=4, verbose=0)
    scores = model.predict(evaluation_batches(source, GREY, 24), verbose=0)
    assert np.mean(scores.argmax(-1) == labels) > 0.9


@pytest.mark.tensorflow
def test_an_infinite_data_set_says_so():
    data = training_batches(open_source(numbered(43), "train"), NOTHING, 8, 0, preprocessing=GREY)
    assert data.cardinality() == tf.data.INFINITE_CARDINALITY
