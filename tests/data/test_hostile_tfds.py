"""A folder that a stranger prepared for TFDS imports nothing, and opens no file outside of it."""

import json
import shutil
import sys

import pytest

from keras_t2t.data import open_source
from tests.data.test_sources import SUBSET

pytestmark = pytest.mark.tensorflow

EVIL = "hostile_module.Evil"
OWN = "tensorflow_datasets.core.features."
LEGACY_TEXT = json.dumps({"features": {"image": {"pythonClassName": EVIL}}})
LEGACY = {
    "type": OWN + "features_dict.FeaturesDict",
    "proto_cls": "tensorflow_datasets.FeaturesDict",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    shutil.copytree(SUBSET, tmp_path / "subset" / "1.0.0")
    (tmp_path / "hostile_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "subset" / "1.0.0"


def change(path, *keys, to):
    """Changes one entry of a JSON file."""
    content = json.loads(path.read_text())
    *before, last = keys
    part = content
    for key in before:
        part = part[key]
    part[last] = to
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "keys, to",
    [
        (["pythonClassName"], EVIL),
        (["featuresDict", "features", "image", "pythonClassName"], EVIL),
        (["featuresDict", "features", "label", "python_class_name"], EVIL),
        (["featuresDict", "features", "other"], {"pythonClassName": EVIL, "image": {}}),
        (["type"], EVIL),
        (["featuresDict"], [{"type": EVIL}]),
        (["featuresDict"], json.dumps({"type": EVIL})),
        (["pythonClassName"], "tensorflow_datasets_evil.Evil"),
        (["pythonClassName"], "os.path"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_no_class_from_elsewhere_is_imported(folder, keys, to, named):
    change(folder / "features.json", *keys, to=to)
    with pytest.raises(
        ValueError, match="features.json: expected only features of TFDS itself, got"
    ):
        if named:
            open_source("tfds:subset/1.0.0", "train", data_dir=folder.parents[1])
        else:
            open_source(folder, "train")
    assert "hostile_module" not in sys.modules


def test_nor_from_a_json_text_of_earlier_versions(folder):
    (folder / "features.json").write_text(json.dumps({**LEGACY, "content": LEGACY_TEXT}))
    with pytest.raises(ValueError, match=f"got {EVIL!r}, which was not imported"):
        open_source(folder, "train")
    assert "hostile_module" not in sys.modules


@pytest.mark.parametrize("template", ["/etc/passwd", "../outside", "inner/{SPLIT}", "a/../../b"])
def test_no_file_outside_the_folder_is_opened(folder, template):
    change(folder / "dataset_info.json", "splits", 0, "filepathTemplate", to=template)
    with pytest.raises(ValueError, match="its dataset_info.json names a file elsewhere, /"):
        open_source(folder, "train")


def test_nor_by_the_name_of_the_data_set(folder):
    change(folder / "dataset_info.json", "name", to="../../etc/passwd")
    with pytest.raises(ValueError, match="1.0.0: "):
        open_source(folder, "train")


@pytest.mark.parametrize("classes", ["262145", "1000000000"])
def test_no_list_of_more_names_than_there_can_be(folder, classes):
    keys = ["featuresDict", "features", "label", "classLabel", "numClasses"]
    change(folder / "features.json", *keys, to=classes)
    (folder / "label.labels.txt").unlink()
    with pytest.raises(ValueError, match=f"expected at most 262144 classes, got {classes}"):
        open_source(folder, "train")


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '"x"', "{", "[" * 100_000, "\0", "null"])
def test_other_texts_are_refused_in_a_line(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match="1.0.0") as error:
        open_source(folder, "train")
    assert "\n" not in str(error.value)
