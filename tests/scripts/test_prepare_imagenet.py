"""scripts/prepare_imagenet.sh on small tar files of ImageNet's structure."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.tensorflow

SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_imagenet.sh"
CLASSES = ("n01440764", "n01443537", "n01484850")
# The validation images are in no order of classes.
LABELS = [CLASSES[number * 7 % 3] for number in range(7)]
COUNTS = ["--train-images", "12", "--val-images", "7", "--classes", "3"]


def jpeg(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((10, 12, 3), value, "uint8")).save(buffer, "JPEG")
    return buffer.getvalue()


def add(tar, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


@pytest.fixture
def tars(tmp_path):
    folder = tmp_path / "tars"
    folder.mkdir()
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for place, name in enumerate(CLASSES):
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as inner:
                for number in range(4):
                    add(inner, f"{name}_{number}.JPEG", jpeg(50 * place + number))
            add(outer, f"{name}.tar", content.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        # Not in the order of their names.
        for number in (3, 1, 2, 7, 5, 6, 4):
            add(tar, f"ILSVRC2012_val_{number:08}.JPEG", jpeg(10 * number))
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    return folder


def prepare(tars, out, *arguments):
    command = [SCRIPT, "--labels", tars / "labels.txt", *(arguments or COUNTS), tars, out]
    return subprocess.run(command, capture_output=True, text=True)


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}


def test_every_image_lies_with_its_class(tars, tmp_path):
    result = prepare(tars, tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    expected = {
        Path("train", name, f"{name}_{number}.JPEG"): jpeg(50 * place + number)
        for place, name in enumerate(CLASSES)
        for number in range(4)
    }
    for number, name in enumerate(LABELS, start=1):
        expected[Path("val", name, f"ILSVRC2012_val_{number:08}.JPEG")] = jpeg(10 * number)
    assert files(tmp_path / "out") == expected


def test_it_goes_on_after_an_interruption(tars, tmp_path):
    out = tmp_path / "out"
    prepare(tars, out)
    complete = files(out)
    # As if it had been killed in the second class; the first is not unpacked again.
    shutil.rmtree(out / "val")
    shutil.rmtree(out / "train" / CLASSES[1])
    (out / ".part" / CLASSES[1]).mkdir(parents=True)
    (out / ".part" / CLASSES[1] / "half.JPEG").write_bytes(b"half")
    before = (out / "train" / CLASSES[0]).stat().st_ctime_ns
    result = prepare(tars, out)
    assert result.returncode == 0
    assert files(out) == complete
    assert (out / "train" / CLASSES[0]).stat().st_ctime_ns == before
    assert sorted(path.name for path in out.iterdir()) == ["train", "val"]


def test_wrong_counts_fail(tars, tmp_path):
    result = prepare(tars, tmp_path / "out", "--classes", "3", "--val-images", "7")
    assert result.returncode == 1
    assert "train: expected 1281167 images, 3 classes" in result.stderr
    assert result.stderr.count("error") == 1


@pytest.mark.parametrize("missing", ["ILSVRC2012_img_val.tar", "labels.txt"])
def test_what_is_missing_is_named(tars, tmp_path, missing):
    (tars / missing).unlink()
    result = prepare(tars, tmp_path / "out")
    assert result.returncode == 2
    assert f"{missing}: no such file" in result.stderr


def test_a_list_of_another_length_is_refused(tars, tmp_path):
    (tars / "labels.txt").write_text("\n".join(LABELS[1:]) + "\n")
    result = prepare(tars, tmp_path / "out")
    assert result.returncode == 2
    assert "expected an image for each of the 6 lines" in result.stderr
    assert not (tmp_path / "out" / "val").exists()


def test_records_are_counted(tars, tmp_path):
    """Seven validation images as they should be, and too few to train on."""
    command = [SCRIPT, "--tfds", "--train-images", "13", "--val-images", "7", tars, tmp_path]
    environment = {**os.environ, "PYTHON": sys.executable}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 1, result.stderr
    assert "train: 12 images\nvalidation: 7 images\n" in result.stdout
    assert result.stderr.endswith("error: train: expected 13 images\n")
    assert (tmp_path / "imagenet2012").is_dir()


def test_the_repositorys_python_is_the_default(tars, tmp_path):
    """Without PYTHON the default list is found wherever the environment has TFDS."""
    script = tmp_path / "scripts" / "prepare_imagenet.sh"
    script.parent.mkdir()
    shutil.copy(SCRIPT, script)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho /packages/__init__.py\n")
    python.chmod(0o755)
    result = subprocess.run(
        [script, *COUNTS, tars, tmp_path / "out"],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert "/packages/datasets/imagenet2012/validation_labels.txt: no such file" in result.stderr


def test_the_default_list_is_found(tars, tmp_path):
    """TFDS brings 50,000 labels, for which seven images are too few."""
    command = [SCRIPT, *COUNTS, tars, tmp_path / "out"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"},
    )
    assert result.returncode == 2
    assert "each of the 50000 lines" in result.stderr
