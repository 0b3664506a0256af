"""The fuzz run, in short, and that it tells what is wrong."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/fuzz.py"


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, "--out", folder, *arguments],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
        capture_output=True,
        text=True,
    )


@pytest.mark.above_backends
@pytest.mark.slow
def test_no_kind_of_file_fails(tmp_path):
    done = run(tmp_path, "--seconds", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    figures = [line.split()[-4:] for line in done.stdout.splitlines()[1:]]
    assert len(figures) == 19
    for tried, *_, failed in figures:
        assert tried != "0" and failed == "0"
    assert sum(refused != "0" for _, refused, *_ in figures) > 15


class Crash:
    """Readers that do what no reader should."""

    @staticmethod
    def several_lines(path):
        raise ValueError(f"{path}: one\ntwo")

    @staticmethod
    def without_a_name(path):
        raise ValueError("no")

    @staticmethod
    def another_error(path):
        raise KeyError(str(path))

    @staticmethod
    def memory(path):
        bytearray(3 * 2**29)


@pytest.mark.above_backends
@pytest.mark.parametrize("name", ["several_lines", "without_a_name", "another_error", "memory"])
def test_what_is_wrong_is_told(name, tmp_path):
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    outcome = fuzz.try_one(getattr(Crash, name), tmp_path / "a.npz", b"")
    assert outcome.startswith("failed: ")
