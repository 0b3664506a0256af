"""Errors of the functions that commands call, in the words of the command line."""

import contextlib
import importlib
import re

import pytest
from PIL import Image

from keras_t2t.commands import main as command_line
from keras_t2t.commands.main import COMMANDS, main
from keras_t2t.commands.options import as_typed
from tests.exporting.trained import photos, trained_model

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

MODULES = {
    name: importlib.import_module(f"keras_t2t.commands.{name.replace('-', '_')}")
    for name in COMMANDS
}
# By the names that functions have for them.
OPTIONS = {name: command_line._options(module) for name, module in MODULES.items()}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_spells_every_option_so(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    words = re.split(r"[\s,\[\]]+", capsys.readouterr().out)
    for option in OPTIONS[command].values():
        # Those of a part stand there one by one.
        assert option.spelling in words or option.name in ("preprocessing", "augmentation")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_form_in_which_an_argument_is_named(command):
    options = OPTIONS[command]
    for name, option in options.items():
        typed = option.spelling
        assert typed == typed.upper() if option.positional else typed.startswith("--")
        other = next(iter(options.values()))
        for message, expected in {
            f"{name}: expected x, got y": f"{typed}: expected x, got y",
            f"{name}: expected None or 1": f"{typed}: expected null or 1",
            f"{name}, {other.name}: expected both": f"{typed}, {other.spelling}: expected both",
            f"`{name}` must be an int. Received: {name}='b c'": (
                f"{typed} must be an int. Received: {typed} 'b c'"
            ),
            f"a exists. Pass {name}=True to replace it.": f"a exists. Pass {typed} to replace it.",
            f"x: expected y with {name}='int8', got {name}=0.5.": (
                f"x: expected y with {typed} int8, got {typed} 0.5."
            ),
            f"expected `{name}` (got {name}=(1, 2))": f"expected {typed} (got {typed} '(1', 2))",
        }.items():
            assert as_typed(message, options) == expected
        # What is no argument of this name.
        for message in (
            f"/a/{name}/b: cannot be read",
            f"{name}/b.txt: is no image",
            f"runs/{name}=3: is of another recipe",
            f"{name}s: expected x",
            f"no_{name}: expected x",
            f"model 'a {name}': expected x",
            f"expected {name} of them",
            f"argument {typed}: expected x",
        ):
            assert as_typed(message, options) == message


BASES = {
    "check-data": {"folder": "data"},
    "convert": {"source": "model.keras", "destination": "b.npz"},
    "evaluate": {"model": "model.keras", "data": "data"},
    "export": {"model": "model.keras", "destination": "a.tflite"},
    "finetune": {"data": "data", "out": "run"},
    "predict": {"images": "photo.png", "model": "model.keras"},
    "show-batch": {"data": "data", "out": "a.png"},
    "summary": {},
    "train": {"data": "data", "out": "run"},
    "visualize": {"images": "photo.png", "model": "model.keras", "out": "seen"},
}
TRAINING = ("train", "finetune")
VALUES = (
    *("nothing", "no/such.yaml", "photo.png", "data", "", "-1", "0", "0.5", "1e9", ".nan", "null"),
    *("true", "[1, 2]", "[a]", "['(']", "{a: -1}", "{'(': 1}"),
)


class Reached(Exception):
    """Keras would be loaded."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "val").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save("photo.png")
    (tmp_path / "model.keras").touch()
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_errors_of_every_option(command, folder, monkeypatch, capsys):
    """Those that come before Keras is loaded, whatever an option is given."""

    def load(*modules):
        raise Reached

    for module in {*MODULES.values(), importlib.import_module("keras_t2t.commands.models")}:
        if hasattr(module, "load"):
            monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(command_line, "without_decoder_lines", contextlib.nullcontext)
    options, told = OPTIONS[command], 0
    python = "|".join(
        re.escape(name) for name, option in options.items() if name != option.spelling
    )
    # One that is called in two ways is tried once; a flag takes no value.
    tried = {option.name: option for option in options.values()}.values()
    tried = [option for option in tried if option.kind is not bool or command in TRAINING]
    for option in tried:
        for value in VALUES:
            given = {**BASES[command], option.name: value}
            words = [given.pop(name) for name in list(given) if options[name].positional]
            for name, text in given.items():
                words += [options[name].spelling, text]
            try:
                code = main([command, *words])
            except Reached:
                continue
            out, err = capsys.readouterr()
            if code == 2:
                told += 1
                message = err.removeprefix("keras-t2t: error: ").rstrip("\n")
                assert "\n" not in message
                assert not re.search(rf"^({python})(:|, )|`({python})`|\b({python})=", message), err
                # The option, or the file that it names.
                assert option.spelling in message or value and value in message, (words, err)
    assert told >= 10


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name in ("train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "val/dog/d.png"):
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photos(1, (30, 30))[0]).save(folder / "data" / name)
    trained_model(depth=1).save(folder / "model.keras")
    Image.new("RGB", (30, 30)).save(folder / "photo.png")
    (folder / "two.txt").write_text("cat\ndog\n")
    return folder


TRAIN = "train --recipe small --epochs 1 --batch-size 2 --data data --out run "
LATER_ERRORS = {
    TRAIN + "--batch-size 99": "--batch-size: expected at most the 2 images of the data, got 99",
    TRAIN + "--accumulation-steps 2 --strategy mirrored": (
        "--accumulation-steps: expected 1 with --strategy mirrored, because"
    ),
    TRAIN + "--strategy data_parallel": "--strategy: data_parallel needs KERAS_BACKEND=jax",
    TRAIN + "--frozen [nothing]": "--frozen: 'nothing' is found in no layer's name",
    TRAIN + "--part-rates.nothing 2": "--part-rates: 'nothing' is found in no variable's path",
    TRAIN + "--model.depth 0": "--model: `depth` must be a positive int. Received: depth=0",
    TRAIN + "--data-dir data": '--data-dir, --manual-dir: expected with "tfds:NAME" only',
    TRAIN + "--num-hosts 2": "--coordinator, --num-hosts, --host-id: expected all three or none",
    "show-batch data --out a.png --images 9": "--images: expected at most the 2 images of ",
    "show-batch data --out a.png --data-dir b": '--data-dir, --manual-dir: expected with "tfds:N',
    "evaluate model.keras --data data": "--data: expected the 6 classes of model 't2t_vit' or",
    "export model.keras a --labels two.txt": "--labels: expected 6, one for each output of model",
    "export model.keras a --with-softmax --images data/val/cat --batch-size 0": (
        "argument --batch-size: expected an integer of at least 1 or dynamic, got '0'"
    ),
    "predict data --model model.keras --labels two.txt": "--labels: expected 6, one for each",
    "visualize photo.png --model model.keras --out s --labels two.txt": "--labels: expected 6, one",
    "visualize photo.png --model model.keras --out two.txt": "--out: expected a folder, but",
}


@pytest.mark.parametrize("line", LATER_ERRORS)
def test_errors_that_come_later(line, data, monkeypatch, capsys):
    monkeypatch.chdir(data)
    assert main(line.split()) == 2
    assert capsys.readouterr().err.startswith(f"keras-t2t: error: {LATER_ERRORS[line]}")
