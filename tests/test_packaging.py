"""The built wheel holds the whole package and nothing else."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import keras_t2t

pytestmark = pytest.mark.tensorflow  # no backend is used

ROOT = Path(__file__).parents[1]


def test_wheel_holds_the_package_and_its_command(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("keras_t2t", "tests"):  # the tests lie there to be left out
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    # `setuptools`, which builds it, is here already: TensorFlow depends on it.
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "."]
    subprocess.run(build, cwd=source, check=True, capture_output=True)

    (wheel,) = source.glob("*.whl")
    assert wheel.name.startswith(f"keras_t2t-{keras_t2t.__version__}-")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
        assert "keras-t2t = keras_t2t.commands.main:main" in archive.read(entry_points).decode()
    packed = {name for name in names if ".dist-info/" not in name}
    files = (path for path in (source / "keras_t2t").rglob("*") if path.is_file())
    assert packed == {str(path.relative_to(source)) for path in files}
    stubs = {f"keras_t2t/{room}__init__.pyi" for room in ("", "data/", "inspection/", "training/")}
    assert packed >= stubs | {"keras_t2t/py.typed", "keras_t2t/inspection/report.html"}

    # As `skimage` does with this variable, a check that every lazy name can be imported.
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    code = "import keras_t2t; print(keras_t2t.__file__, *sorted(vars(keras_t2t)))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "EAGER_IMPORT": "1", "PYTHONPATH": str(installed)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    place, *names = result.stdout.split()
    assert Path(place).is_relative_to(installed)
    assert set(keras_t2t.__all__) <= set(names)
