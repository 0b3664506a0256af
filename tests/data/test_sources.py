"""Where images come from, and what is said when they cannot."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from keras_t2t.commands.main import main
from keras_t2t.data import tfds_sources
from keras_t2t.data.decoding import BadImageError, naming_bad_images
from keras_t2t.data.pipeline import evaluation_batches
from keras_t2t.data.show import caption
from keras_t2t.data.source import ArraySource
from keras_t2t.data.sources import open_source
from keras_t2t.data.tfds_sources import DataSource, EncodedSource
from keras_t2t.image_files import IMAGE_SUFFIXES, find_images
from keras_t2t.training import small

pytestmark = pytest.mark.tensorflow

SUBSET = Path(__file__).parents[2] / "examples/data/fashion_mnist_subset/1.0.0"


def write(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((9, 7, 3), value, "uint8")).save(path)


@pytest.fixture
def folder(tmp_path):
    for name in ("wasp", "ant", "bee"):
        write(tmp_path / "train" / name / "sub" / "a.png")
        write(tmp_path / "train" / name / "b.JPEG")
        (tmp_path / "train" / name / "notes.txt").write_text("no image")
    write(tmp_path / "validation" / "wasp" / "c.png")
    return tmp_path


def test_a_folder_has_the_classes_of_train(folder):
    train, validation = (open_source(folder, split) for split in ("train", "validation"))
    assert train.class_names == validation.class_names == ("ant", "bee", "wasp")
    assert (len(train), len(validation), train.num_classes) == (6, 1, 3)
    image, label, name = validation.read(tf.constant(0))
    assert (int(label), name.numpy().decode()) == (2, str(folder / "validation" / "wasp" / "c.png"))
    assert image.numpy() == (folder / "validation" / "wasp" / "c.png").read_bytes()
    write(folder / "validation" / "hornet" / "d.png")
    with pytest.raises(ValueError, match="expected only the classes of .*train, got also hornet"):
        open_source(folder, "validation")


def test_what_is_hidden_is_no_class_and_no_image(folder, caplog):
    for name in (".git", "__MACOSX"):
        write(folder / "train" / name / "a.png")
        write(folder / "train" / "ant" / name / "a.png")
    write(folder / "train" / "ant" / "._b.png")
    for name in ("c.HEIC", "d.heic", "e"):
        (folder / "train" / "bee" / name).write_text("no image")
    train = open_source(folder, "train")
    assert (len(train), train.class_names) == (6, ("ant", "bee", "wasp"))
    (message,) = caplog.messages
    assert message.startswith(f"{folder / 'train'}: files of other suffixes are passed over: ")
    assert {"3 .txt", "2 .heic", "1 without one"} == set(message.rpartition(": ")[2].split(", "))
    assert find_images([folder / "train" / "ant"])[0] == sorted(
        str(folder / "train" / "ant" / name) for name in ("b.JPEG", "sub/a.png")
    )
    (folder / "train" / "empty").mkdir()
    with pytest.raises(ValueError, match="train/empty: holds no image .*[.]tiff"):
        open_source(folder, "train")


def test_a_prepared_folder():
    source = open_source(SUBSET, "validation")
    assert isinstance(source, ArraySource)
    assert (len(source), source.num_classes, source.channels) == (2000, 10, 1)
    assert source.class_names[9] == "Ankle boot"
    expected = tfds.builder_from_directory(SUBSET).as_dataset(split="test", as_supervised=True)
    for index, (pixels, label) in enumerate(expected.take(20)):
        image, own, name = source.read(tf.constant(index))
        np.testing.assert_array_equal(image, pixels)
        assert own == label
    assert name.numpy() == b"fashion_mnist_subset/1.0.0 test, image 19"


class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Images of many sizes, with a further feature, under keys of its own."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "number": tfds.features.Scalar(np.int64),
            "picture": tfds.features.Image(),
            "kind": tfds.features.ClassLabel(num_classes=3),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(6):
            pixels = np.full((4 + number, 5, 3), 10 * number, "uint8")
            yield number, {"number": number, "picture": pixels, "kind": number % 3}


@pytest.mark.parametrize(
    "file_format, kind", [("tfrecord", EncodedSource), ("array_record", DataSource)]
)
def test_images_of_many_sizes_stay_encoded(tmp_path, file_format, kind):
    builder = Shapes(data_dir=tmp_path, file_format=file_format)
    builder.download_and_prepare()
    source = open_source(builder.data_dir, "train")
    assert isinstance(source, kind)
    assert (len(source), source.class_names, source.num_classes) == (6, None, 3)
    for index in range(6):
        image, label, _ = source.read(tf.constant(index))
        pixels = tf.io.decode_png(image)
        number = int(pixels[0, 0, 0]) // 10
        assert (pixels.shape[0], int(label)) == (4 + number, number % 3)
    with pytest.raises(ValueError, match="expected a 'validation' split, got train"):
        open_source(builder.data_dir, "validation")


def test_damaged_records_are_told_in_a_line(tmp_path, monkeypatch):
    shutil.copytree(SUBSET, tmp_path / "1.0.0")
    (path,) = (tmp_path / "1.0.0").glob("*test*tfrecord*")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError) as error:
        open_source(tmp_path / "1.0.0", "validation")
    assert str(error.value).startswith(f"{path}: cannot be read (truncated record")
    assert "\n" not in str(error.value)
    # A stream is damaged only once it is read.
    monkeypatch.setattr(tfds_sources, "IN_MEMORY_BYTES", 0)
    source = open_source(tmp_path / "1.0.0", "validation")
    with pytest.raises(BadImageError) as error, naming_bad_images():
        list(evaluation_batches(source, small().preprocessing, 1000))
    assert str(error.value).startswith("a file of records is damaged: truncated record")


def idx(path, array):
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_idx_files(tmp_path):
    images = np.arange(60, dtype="uint8").reshape(5, 4, 3)
    idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    idx(tmp_path / "train-labels-idx1-ubyte.gz", np.array([3, 0, 1, 2, 0], "uint8"))
    source = open_source(tmp_path, "train")
    assert (len(source), source.num_classes, source.channels) == (5, 4, 1)
    for index in range(5):
        image, label, _ = source.read(tf.constant(index))
        np.testing.assert_array_equal(image[..., 0], images[index])
    assert int(label) == 0
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz: is not a complete gzip file"):
        open_source(tmp_path, "train")


@pytest.mark.parametrize(
    "spec, message",
    [
        ((np.zeros((2, 4, 4, 3)), np.zeros(2, int)), "images: expected uint8 .* got float64"),
        ((np.zeros((2, 4, 4), "uint8"), np.zeros(2, int)), r"images: expected .* got uint8 \(2, 4"),
        ((np.zeros((2, 4, 4, 3), "uint8"), np.zeros(3, int)), r"labels: .*\(2,\), got int64 \(3,"),
        ((np.zeros((2, 4, 4, 3), "uint8"), np.zeros(2)), "labels: expected integers"),
        (
            (np.zeros((1, 4, 4, 3), "uint8"), np.array([-1])),
            "labels: expected none below 0, got -1",
        ),
        ((np.zeros((0, 4, 4, 3), "uint8"), np.zeros(0, int)), "arrays: holds no images"),
        (7, 'spec: expected "tfds:NAME", a folder or a pair of arrays .*, got int'),
        ("tfds:no_such_data_set", "TFDS knows no data set of this name"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(ValueError, match=message):
        open_source(spec, "train")


def test_files_that_tfds_cannot_download_are_asked_for(tmp_path):
    with pytest.raises(ValueError, match="manual_dir: expected the files of imagenet2012") as error:
        open_source("tfds:imagenet2012", "train", data_dir=tmp_path, manual_dir=tmp_path)
    assert "\n" not in str(error.value)


def test_wrong_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        open_source(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match="expected a prepared TFDS folder.* with train/"):
        open_source(tmp_path, "train")
    with pytest.raises(ValueError, match="split: expected one of train, validation, got 'test'"):
        open_source(tmp_path, "test")
    with pytest.raises(ValueError, match='data_dir, manual_dir: expected with "tfds:NAME" only'):
        open_source(tmp_path, "train", data_dir=tmp_path)


def test_check_data_finds_nothing_in_good_data(folder, capsys):
    shutil.copytree(folder / "train", folder / "validation", dirs_exist_ok=True)
    assert main(["check-data", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}: 13 image(s), 0 problem(s)\n"


def test_check_data_finds_every_problem(folder, capsys):
    photo = folder / "train" / "bee" / "b.JPEG"
    photo.write_bytes(photo.read_bytes()[:300])
    (folder / "train" / "empty").mkdir()
    write(folder / "validation" / "hornet" / "d.png")
    text = folder / "validation" / "hornet" / "e.png"
    text.write_text("no image")
    link = folder / "validation" / "hornet" / "f.png"
    link.symlink_to("nowhere.png")
    assert main(["check-data", str(folder)]) == 1
    *problems, summary = capsys.readouterr().out.splitlines()
    assert summary == f"{folder}: 10 image(s), 8 problem(s)"
    train, validation = folder / "train", folder / "validation"
    assert problems[:5] == [
        f"{train / 'empty'}: holds no image ({' '.join(IMAGE_SUFFIXES)})",
        *(
            f"{validation / name}: missing, but a class of {train}"
            for name in ("ant", "bee", "empty")
        ),
        f"{train / 'hornet'}: missing, but a class of {validation}",
    ]
    assert problems[5].startswith(f"{photo}: ")
    assert problems[6].startswith(f"{text}: not an image of a known format")
    assert problems[7] == f"{link}: cannot be read as an image (No such file or directory)"


@pytest.mark.parametrize(
    "missing, problem",
    [("train", "holds no train/"), ("validation", "holds no val/ or validation/")],
)
def test_check_data_of_one_split(folder, capsys, missing, problem):
    shutil.rmtree(folder / missing)
    assert main(["check-data", str(folder)]) == 1
    assert capsys.readouterr().out.startswith(f"{folder}: {problem}\n")


def test_check_data_of_no_folder(tmp_path, capsys):
    assert main(["check-data", str(tmp_path / "nowhere")]) == 2
    assert main(["check-data", str(tmp_path)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"keras-t2t: error: There is no folder {tmp_path / 'nowhere'}",
        f"keras-t2t: error: {tmp_path}: expected a folder with train/ and val/ or validation/",
    ]


def test_show_batch(tmp_path, capsys):
    out = tmp_path / "batch.png"
    arguments = ["show-batch", str(SUBSET), "--recipe", "small", "--images", "6", "--out", str(out)]
    assert main(arguments) == 0
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("L"))
    # Six images on white: dark ground under each.
    assert np.mean(pixels < 40) > 0.1
    assert main(arguments) == 2
    assert "Pass --force to replace it" in capsys.readouterr().err
    assert main([*arguments, "--recipe", "big"]) == 2
    assert "--recipe: expected a .yaml file or one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    "label, expected",
    [
        ([0.02, 0.02, 0.92, 0.02, 0.02], "0.92 c"),
        ([0.02, 0.32, 0.62, 0.02, 0.02], "0.62 c\n0.32 b"),
        ([0.0, 0.0, 0.0, 1.0, 0.0], "1.00 d"),
        ([0.5, 0.5], "0.50 a\n0.50 b"),
    ],
)
def test_captions_name_the_mixed_classes(label, expected):
    assert caption(np.float32(label), "abcde") == expected
