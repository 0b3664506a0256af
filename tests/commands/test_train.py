"""Options of `train` and `finetune`: the fields of dataclasses."""

import dataclasses

import pytest
import yaml

from keras_t2t.commands import train
from keras_t2t.commands.main import main
from keras_t2t.commands.options import Parser
from keras_t2t.training import Options, Recipe, finetune, published, save_recipe, small

REQUIRED = ["--data", "photos", "--out", "runs/a"]


def parse(arguments, default_recipe="published"):
    """The recipe, the fields of `Options` and the folder that a command line gives."""
    found = train.parse(Parser(prog="keras-t2t train"), arguments, default_recipe)
    return found["recipe"], found["options"], found["out"]


def test_every_field_is_an_option():
    chosen, options, out = parse(
        [
            *REQUIRED,
            "--recipe=small",
            "--batch-size=8",
            "--learning_rate",
            "1e-2",
            "--augmentation.crop-area",
            "[0.5, 1]",
            "--augmentation.mixup=0.2",
            "--model",
            '{"depth": 2}',
            "--clip-norm=null",
            "--checkpoint-minutes",
            "3",
            *("--coordinator", "10.0.0.1:1234", "--num-hosts", "2", "--host-id", "1"),
        ]
    )
    assert out == "runs/a" and options["data"] == "photos"
    assert (options["checkpoint_minutes"], options["num_hosts"]) == (3.0, 2)
    assert options.keys() == {field.name for field in dataclasses.fields(Options)}
    changed = dataclasses.replace(
        small(),
        batch_size=8,
        learning_rate=1e-2,
        model={"depth": 2},
        clip_norm=None,
        augmentation=dataclasses.replace(small().augmentation, crop_area=(0.5, 1.0), mixup=0.2),
    )
    assert chosen == changed


def test_recipes_on_the_command_line(tmp_path):
    assert parse(REQUIRED)[0] == Recipe()
    assert parse([*REQUIRED, "--variant", "t2t_vit_19"])[0].weight_decay == 0.065
    assert parse(REQUIRED, "finetune")[0] == finetune()
    save_recipe(small(), tmp_path / "a.yaml")
    again = parse([*REQUIRED, "--recipe", str(tmp_path / "a.yaml")])[0]
    assert again == small()
    # All options of a run in one file; dictionaries in it are taken whole.
    (tmp_path / "run.yaml").write_text("epochs: 7\nmodel: {depth: 3}\ndata: b\nout: c\n")
    chosen, options, out = parse(["--recipe=small", "--config", str(tmp_path / "run.yaml")])
    assert chosen == dataclasses.replace(small(), epochs=7, model={"depth": 3})
    assert (options["data"], out) == ("b", "c")


def test_a_file_of_options_chooses_the_recipe(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("recipe: small\n")
    assert parse([*REQUIRED, "--config", str(path)])[0] == small()
    path.write_text("variant: t2t_vit_19\n")
    found = parse([*REQUIRED, "--config", str(path)])[0]
    assert found == published("t2t_vit_19")


def test_one_argument_of_the_model_leaves_the_others():
    arguments = [*REQUIRED, "--recipe", "small", "--model.depth", "2", "--model.mlp-ratio=1e0"]
    assert parse(arguments)[0].model == {**small().model, "depth": 2, "mlp_ratio": 1.0}
    # The last one counts, as of all options.
    assert parse([*arguments, "--model", "{embed_dim: 8}"])[0].model == {"embed_dim": 8}
    assert parse([*REQUIRED, "--part_rates.^head/", "0.1"])[0].part_rates == {"^head/": 0.1}
    # What only looks like an item is none.
    assert parse(["--data", "augmentation", "--out", "model.depth"])[2] == "model.depth"


def test_parts_and_lists():
    arguments = ["--augmentation", '{"mixup": 0.3, crop_area: null}', "--frozen", '["^(?!head$)"]']
    found = parse([*REQUIRED, *arguments, "--augmentation.cutmix", "0"])[0]
    expected = dataclasses.replace(Recipe().augmentation, mixup=0.3, crop_area=None, cutmix=0.0)
    assert (found.augmentation, found.frozen) == (expected, ("^(?!head$)",))
    assert parse([*REQUIRED, "--tensorboard", "true"])[1]["tensorboard"] is True


def printed(arguments, capsys, default_recipe="published"):
    with pytest.raises(SystemExit) as stopped:
        parse(arguments, default_recipe)
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("spelling", ["--print_config", "--print-config"])
def test_printed_options_can_be_read(spelling, tmp_path, capsys):
    arguments = ["--recipe", "small", "--model.depth", "2", "--learning-rate", "1e-3", *REQUIRED]
    path = tmp_path / "run.yaml"
    path.write_text(printed([*arguments, spelling], capsys))
    assert parse(["--config", str(path)]) == parse(arguments)
    path.write_text(printed([*arguments, spelling + "=skip_default"], capsys))
    assert yaml.safe_load(path.read_text()).keys() == {
        *("recipe", "data", "out", "model", "learning_rate")
    }
    assert parse(["--config", str(path)]) == parse(arguments)
    shown = yaml.safe_load(printed([*arguments, spelling + "=skip_unset"], capsys))
    assert "epochs" in shown and None not in shown.values()


def test_help_is_in_groups_with_the_defaults_of_the_recipe(capsys):
    text = printed(["--help"], capsys, "finetune")
    for title in ("data", "model", "optimisation", "augmentation", "devices"):
        assert f"\n{title}:\n" in text
    fields = [*dataclasses.fields(Recipe), *dataclasses.fields(Options)]
    for name in {field.name for field in fields} - {"preprocessing", "augmentation"}:
        assert f"  --{name.replace('_', '-')} " in text, name
    words = " ".join(text.split())
    assert "--batch-size N Images per step, over all devices and hosts. (default: 64)" in words
    assert "Other options change it. (default: finetune)" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "many", *REQUIRED], "--batch-size: expected an integer, got 'many'"),
        (["--batchsize", "8", *REQUIRED], "unrecognized arguments: --batchsize 8"),
        (["--recipe", "best", *REQUIRED], "--recipe: expected a .yaml file or one of published"),
        (["--recipe", "nofile.yaml", *REQUIRED], "--recipe: there is no file nofile.yaml"),
        (["--frozen", "norm", *REQUIRED], "--frozen: expected a list such as"),
        (["--tensorboard", "1", *REQUIRED], "--tensorboard: expected true or false, got '1'"),
        (["--augmentation", "[1]", *REQUIRED], "--augmentation: there is no file [1]"),
        (["--config", "{epoch: 3}", *REQUIRED], "unrecognized arguments: --epoch=3"),
        (["--config", "{a: [}", *REQUIRED], "--config: while parsing"),
        (["--data", "a"], "the following arguments are required: --out"),
        (["--rec", "small", *REQUIRED], "unrecognized arguments: --rec small"),
        (
            ["--recipe", "small", "--variant", "t2t_vit_7", *REQUIRED],
            "--variant: expected none with --recipe small",
        ),
        (["--precision", "float8", *REQUIRED], "--precision: expected one of float32"),
        (["--augmentation.flip", "2", *REQUIRED], "--augmentation.flip: expected a number in 0..1"),
        (["--epochs", "10", *REQUIRED], "--epochs: expected more than --cooldown-epochs 10"),
    ],
)
def test_errors(arguments, message, capsys):
    assert main(["train", *arguments]) == 2
    assert message in capsys.readouterr().err
