"""How the command starts: at once, and without the log of TensorFlow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_t2t.commands.main import COMMANDS

COMMAND = Path(sys.executable).with_name("keras-t2t")

# Runs many command lines, and prints what each ended with and what had been imported by then.
STARTED = """
import contextlib, io, json, sys
from keras_t2t.commands.main import main

for arguments in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as stopped:
            code = stopped.code
    heavy = sorted({"keras", "tensorflow", "jax", "torch"} & set(sys.modules))
    print(json.dumps([code, out.getvalue(), err.getvalue(), heavy]))
"""


def started(command_lines, folder):
    """[exit code, stdout, stderr, frameworks imported] of each, all in one fresh process."""
    result = subprocess.run(
        [sys.executable, "-c", STARTED],
        input=json.dumps(command_lines),
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.tensorflow  # no backend is loaded
def test_help_loads_no_framework(tmp_path):
    lines = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    for line, (code, out, err, heavy) in zip(lines, started(lines, tmp_path), strict=True):
        assert (code, err, heavy) == (0, "", []), line
        assert "keras-t2t" in out
        # One spelling.
        assert not [word for word in out.split() if word.startswith("--") and "_" in word], line


USAGE_ERRORS = {
    "invalid choice: 'predcit'": "predcit",
    "the following arguments are required: COMMAND": "",
    "the following arguments are required: IMAGE, --model": "predict",
    "unrecognized arguments: --models x": "predict a.jpg --model t2t_vit_14 --models x",
    "argument --top: expected an integer of at least 1, got '0'": (
        "predict a.jpg --model t2t_vit_14 --top 0"
    ),
    "--model: expected a file (.pth, ": "predict image.png --model t2t_vit_15",
    "There is no file missing.keras": "predict image.png --model missing.keras",
    "There is no file missing.tflite": "evaluate missing.tflite --data folder",
    "--labels: there is no file l.txt": "predict image.png --model mine.keras --labels l.txt",
    "--weights: expected none with mine.keras": "evaluate mine.keras --weights x --data folder",
    "--weights imagenet21k is not published for t2t_vit_14": (
        "predict image.png --model t2t_vit_14 --weights imagenet21k"
    ),
    "There is no folder nowhere": "evaluate mine.keras --data nowhere",
    "There is no folder nothing": "check-data nothing",
    "--out: expected a file that ends in .png": "show-batch folder --out batch.pdf",
    "--recipe: expected a .yaml file or one of": "show-batch folder --out a.png --recipe big",
    "There is no file none.pth": "convert none.pth a.keras",
    "SOURCE must end in .pth, ": "convert image.png a.keras",
    "DESTINATION must end in .pth, ": "convert mine.keras a.onnx",
    "--variant must be one of": "convert mine.keras a.npz --variant t2t",
    "mine.keras exists. Pass --force": "convert mine.keras mine.keras",
    "--precision must be one of": "export mine.keras a.tflite --precision int4",
    "MODEL: expected a file": "export mine.txt a.tflite",
    "argument --batch-size: expected an integer of at least 1 or dynamic, got 'few'": (
        "export mine.keras a.tflite --batch-size few"
    ),
    "VARIANT: expected some of t2t_vit_7, ": "summary t2t_vit_8",
    "IMAGE: there is no file none.jpg": "visualize none.jpg --model mine.keras --out seen",
    "the following arguments are required: --data, --out": "train",
    "argument --epochs: expected an integer, got 'many'": "train --epochs many",
    "--config: there is no file none.yaml": "train --config none.yaml",
    "--variant must be one of 't2t_vit_7', ": "train --data folder --out a --variant t2t_vit_15",
    "--precision: expected one of float32": "train --data folder --out a --precision float8",
    "--recipe: there is no file none.yaml": "finetune --recipe none.yaml",
    "There is no folder empty": "finetune --data empty --out a",
}


@pytest.mark.tensorflow  # no backend is loaded
def test_usage_errors_load_no_framework(tmp_path):
    for name in ("image.png", "mine.keras"):
        (tmp_path / name).write_text("nothing")
    (tmp_path / "folder").mkdir()
    lines = [line.split() for line in USAGE_ERRORS.values()]
    ended = started([*lines, ["predict", "none.jpg", "--model", "t2t_vit_14"]], tmp_path)
    for message, line, (code, out, err, heavy) in zip(USAGE_ERRORS, lines, ended, strict=False):
        assert (code, out, heavy) == (2, "", []), (line, err)
        assert err.startswith("keras-t2t: error: ") and err.count("\n") == 1, line
        assert message in err, line
    assert ended[-1] == [1, "", "keras-t2t: skipped: none.jpg: no such file\n", []]


@pytest.mark.tensorflow
def test_the_command_says_one_line(tmp_path):
    """Whatever TensorFlow's C++ code writes to stderr as it starts."""
    (tmp_path / "broken.keras").write_text("no model")
    environment = {key: value for key, value in os.environ.items() if "TF_CPP" not in key}
    result = subprocess.run(
        [COMMAND, "convert", "broken.keras", "x.npz"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.startswith(
        "keras-t2t: error: broken.keras cannot be read as a Keras model"
    )
    assert result.stderr.count("\n") == 1 and result.stdout == ""


@pytest.mark.tensorflow  # no backend is loaded
@pytest.mark.parametrize(
    ("error", "code", "stderr"),
    [
        ("KeyboardInterrupt", 130, ""),
        ("ImportError('no keras')", 2, "keras-t2t: error: no keras\n"),
    ],
)
def test_a_start_that_fails(error, code, stderr, tmp_path):
    (tmp_path / "keras.py").write_text(f"import os\nos.write(2, b'noise')\nraise {error}\n")
    (tmp_path / "a.npz").write_text("weights")
    result = subprocess.run(
        [COMMAND, "convert", "a.npz", "a.keras"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (code, stderr)
