"""The built wheel holds the whole package and nothing else, and what describes it agrees."""

import configparser
import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import keras_t2t

pytestmark = pytest.mark.tensorflow  # no backend is used

ROOT = Path(__file__).parents[1]
# Beside Python's: what the package reads, and what type checkers and editors do.
DATA_FILES = {
    "keras_t2t/exporting/images.png",
    "keras_t2t/imagenet_classes.txt",
    "keras_t2t/inspection/report.html",
    "keras_t2t/py.typed",
}


def test_wheel_holds_the_package_and_its_command(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("keras_t2t", "tests", "scripts"):  # the latter lie there to be left out
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
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        metadata = email.message_from_bytes(archive.read(metadata))
    assert metadata["Version"] == keras_t2t.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().startswith("# ")
    described = {name.partition(".dist-info/")[2] for name in names if ".dist-info/" in name}
    assert described == {
        *("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt")
    }
    packed = {name for name in names if ".dist-info/" not in name}
    files = (path for path in (source / "keras_t2t").rglob("*") if path.is_file())
    assert packed == {str(path.relative_to(source)) for path in files}
    stubs = {f"keras_t2t/{room}__init__.pyi" for room in ("", "data/", "inspection/", "training/")}
    assert packed >= stubs
    assert {name for name in packed if not name.endswith((".py", ".pyi"))} == DATA_FILES

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


def test_every_place_tells_the_same_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == keras_t2t.__version__
    releases = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] in ("Unreleased", keras_t2t.__version__)
    assert keras_t2t.__version__ in releases


def test_the_changelog_sorts_what_changed():
    headings = re.findall(r"^### (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert set(headings) == {"Added", "Changed", "Fixed"}


def test_the_citation_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    assert paper["title"].startswith("Tokens-to-Token ViT")
    assert len(paper["authors"]) == 9
    assert paper["identifiers"][0]["value"] == "arXiv:2101.11986"


def commands(workflow):
    """What the steps of a workflow run, one line each."""
    workflow = yaml.safe_load((ROOT / ".github/workflows" / workflow).read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    return [line for step in steps for line in step.get("run", "").splitlines()]


def test_workflows_run_what_is_there():
    assert ".ci/run" in commands("ci.yml")
    wheel = {"python -m build", "twine check --strict dist/*", "scripts/docs.sh"}
    assert wheel <= set(commands("docs.yml"))
    for name in ("ci.yml", "docs.yml"):
        for command in commands(name):
            program = command.split()[0]
            assert "/" not in program or os.access(ROOT / program, os.X_OK), program


def test_workflows_run_every_python_that_the_package_names():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = re.findall(r":: (3\.\d+)$", setup["metadata"]["classifiers"], re.MULTILINE)
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    image = jobs["ci"]["container"]["image"]
    tested = [
        image.partition(":")[2].partition("-")[0],
        *jobs["quick"]["strategy"]["matrix"]["python"],
    ]
    assert sorted(tested) == sorted(named)


def test_issue_forms_have_what_github_asks_for():
    for name in ("bug.yml", "feature.yml"):
        form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE" / name).read_text())
        assert {"name", "description", "body"} <= form.keys()
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert len({field["id"] for field in fields}) == len(fields)
        assert all(field["attributes"]["label"] for field in fields)


def test_hooks_format_as_the_tests_do():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extra = setup["options.extras_require"]["test"].splitlines()
    (ruff,) = (line for line in extra if line.startswith("ruff"))
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (local,) = (repo for repo in config["repos"] if repo["repo"] == "local")
    assert [hook["id"] for hook in local["hooks"]] == ["ruff-check", "ruff-format"]
    for hook in local["hooks"]:
        (requirement,) = hook["additional_dependencies"]
        assert Requirement(requirement) == Requirement(ruff)
