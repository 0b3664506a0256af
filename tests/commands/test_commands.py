"""`keras-t2t`, from files to exit codes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

import keras_t2t
from keras_t2t import T2TViT, zoo
from keras_t2t.commands.main import main
from keras_t2t.image_files import find_images
from keras_t2t.inference.predict import predict_images
from keras_t2t.preprocessing_layer import PreprocessedImages, model_preprocessing

pytestmark = pytest.mark.above_backends

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"


def small_model(classes=4, activation="softmax", weights="imagenet", class_names=None):
    """Anything that carries its preprocessing; quick to compile."""
    inputs = keras.Input((32, 32, 3))
    images = PreprocessedImages(model_preprocessing(weights, (32, 32, 3)))(inputs)
    x = keras.layers.Flatten()(images)
    head = keras_t2t.layers.Dense(
        classes, activation, kernel_initializer="he_normal", class_names=class_names
    )
    return keras.Model(inputs, head(x), name="small")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.keras"
    small_model().save(path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    shutil.copy(PHOTOS / "china.jpg", tmp_path / "china.jpg")
    shutil.copy(PHOTOS / "flower.jpg", tmp_path / "sub" / "flower[1].JPG")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def probabilities(model, path):
    """By hand, for 32 px: shorter side to 35, centre crop, mean and std."""
    image = Image.open(path)
    width = int(35 * image.width / image.height)
    image = image.resize((width, 35), Image.Resampling.BICUBIC)
    left = round((width - 32) / 2)
    pixels = np.asarray(image.crop((left, 2, left + 32, 34))) / 255
    pixels = (pixels - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return model.predict(pixels[None].astype("float32"), verbose=0)[0]


def test_json(folder, capsys):
    inputs = keras.Input((32, 32, 3))
    images = PreprocessedImages(model_preprocessing("imagenet", (32, 32, 3)))(inputs)
    model = T2TViT(input_tensor=images, token_dim=8, embed_dim=16, depth=1, num_heads=2, classes=4)
    # Fresh weights are so small that any image gives nearly the same.
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        if len(weight.shape) == 2:
            weight.assign(rng.normal(size=weight.shape) * weight.shape[0] ** -0.5)
    model.save(folder / "model.keras")

    arguments = ["--model", str(folder / "model.keras"), "--json", "--top", "9"]
    assert main(["predict", str(folder), *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    results = [json.loads(line) for line in out.splitlines()]
    paths = [folder / "china.jpg", folder / "sub" / "flower[1].JPG"]
    assert [result["image"] for result in results] == list(map(str, paths))
    for result, path in zip(results, paths, strict=True):
        expected = probabilities(model, path)
        order = np.argsort(-expected)
        assert [line["name"] for line in result["predictions"]] == [str(i) for i in order]
        np.testing.assert_allclose(
            [line["probability"] for line in result["predictions"]], expected[order], atol=1e-5
        )


def test_table(model_file, folder, capsys):
    labels = folder / "labels.txt"
    labels.write_text("first\nsecond one\nthird\nfourth\n")
    image = str(folder / "china.jpg")
    code = main(["predict", image, "--model", model_file, "--labels", str(labels), "--top", "1"])
    assert code == 0
    best = probabilities(keras.saving.load_model(model_file), image)
    name = ["first", "second one", "third", "fourth"][best.argmax()]
    title, row = capsys.readouterr().out.splitlines()
    assert title == image
    assert row.split() == [f"{best.max():.2%}", *name.split(), str(best.argmax())]


def test_names_that_the_model_carries(folder, capsys):
    names = ["first", "second one", "\x1b[2J", "n01440764"]
    small_model(class_names=names).save(folder / "named.keras")
    command = ["predict", str(folder / "china.jpg"), "--model", str(folder / "named.keras")]
    assert main(command) == 0
    rows = [row.split(maxsplit=1)[1] for row in capsys.readouterr().out.splitlines()[1:]]
    expected = ["first 0", "second one 1", r"\x1b[2J 2", "tench n01440764"]
    assert sorted(" ".join(row.split()) for row in rows) == sorted(expected)
    # Labels that are given win, and must be as many.
    labels = folder / "labels.txt"
    labels.write_text("a\nb\nc\nd\n")
    assert main([*command, "--labels", str(labels), "--json"]) == 0
    (result,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert {line["name"] for line in result["predictions"]} == set("abcd")
    labels.write_text("a\nb\nc\n")
    assert main([*command, "--labels", str(labels)]) == 2
    assert "labels: expected 4, one for each output of model 'small', got 3" in (
        capsys.readouterr().err
    )


def test_what_cannot_be_read_is_skipped(model_file, folder, capsys):
    (folder / "broken.png").write_bytes(b"no image")
    missing = folder / "missing.jpg"
    arguments = ["predict", str(folder), str(missing), "--model", model_file]
    assert main([*arguments, "--batch-size", "1"]) == 1
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        f"keras-t2t: skipped: {missing}: no such file",
        f"keras-t2t: skipped: {folder / 'broken.png'}: not an image of a known format "
        "(BMP, GIF, JPEG, PNG, TIFF, WEBP)",
    ]
    assert out.count(".jpg") == 1 and out.count(".JPG") == 1
    # Names may hold what drives a terminal.
    (folder / "\x1b[2J.png").write_bytes(b"no image")
    shutil.copy(PHOTOS / "china.jpg", folder / "\x1b[1m.jpg")
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and r"\x1b[2J.png" in err and r"\x1b[1m.jpg" in out
    (folder / "\x1b[2J.png").unlink()
    (folder / "\x1b[1m.jpg").unlink()

    assert main([*arguments, "--json"]) == 1
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert ["error" in result for result in results] == [True, False, False]


def test_nothing_to_do_loads_no_model(folder, capsys):
    (folder / "empty").mkdir()
    assert main(["predict", str(folder / "empty"), "--model", "t2t_vit_14"]) == 1
    assert capsys.readouterr().err == f"keras-t2t: skipped: {folder / 'empty'}: holds no images\n"


def test_find_images(folder):
    china, flower = str(folder / "china.jpg"), str(folder / "sub" / "flower[1].JPG")
    assert find_images([folder]) == ([china, flower], [])
    assert find_images([folder / "*.jpg", flower]) == ([china, flower], [])
    assert find_images([folder / "**" / "*.JPG"]) == ([flower], [])
    assert find_images([folder / "s*"]) == ([flower], [])
    assert find_images([folder / "*.gif"]) == ([], [f"{folder / '*.gif'}: no such file"])


def test_logits_become_probabilities():
    probability, logit = small_model(), small_model(activation=None)
    logit.set_weights(probability.get_weights())
    images = [PHOTOS / "china.jpg", PHOTOS / "flower.jpg"]
    for first, second in zip(
        predict_images(probability, images), predict_images(logit, images), strict=True
    ):
        for one, other in zip(first["predictions"], second["predictions"], strict=True):
            assert one["class"] == other["class"]
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "classes", "known"),
    [
        (None, 1000, "n01440764"),
        ("cifar10", 10, "airplane"),
        ("cifar100", 100, "aquarium_fish"),
    ],
)
def test_variant(weights, classes, known, monkeypatch, capsys):
    def create(variant, weights):
        created.append((variant, weights))
        names = None if weights == "imagenet" else weights
        return small_model(classes, weights=weights, class_names=names)

    created = []
    monkeypatch.setattr(zoo, "create", create)
    arguments = ["predict", str(PHOTOS / "china.jpg"), "--model", "t2t_vit_14", "--json"]
    arguments += ["--top", "1000"] + (["--weights", weights] if weights else [])
    assert main(arguments) == 0
    assert created == [("t2t_vit_14", weights or "imagenet")]
    (result,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(result["predictions"]) == classes
    assert known in {value for line in result["predictions"] for value in line.values()}


def test_errors_are_one_line(model_file, folder, capsys):
    broken, plain = folder / "broken.keras", folder / "plain.keras"
    broken.write_text("no model")
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()], name="plain").save(plain)
    image = str(folder / "china.jpg")
    cases = {
        "invalid choice: 'predcit'": ["predcit"],
        "the following arguments are required: COMMAND": [],
        "the following arguments are required: --model": ["predict", image],
        "argument --top: expected an integer of at least 1, got '0'": ["predict", image]
        + ["--model", model_file, "--top", "0"],
        "--model: expected a file (.pth, .pth.tar, ": ["predict", image, "--model", "t2t_vit_15"],
        "There is no file missing.keras": ["predict", image, "--model", "missing.keras"],
        "There is no file missing.pth": ["predict", image, "--model", "missing.pth"],
        f"{broken} cannot be read as a Keras model: ": ["predict", image, "--model", str(broken)],
        "model 'plain': expected one PreprocessedImages layer": ["predict", image]
        + ["--model", str(plain)],
        f"--weights: expected none with {model_file}": ["predict", image, "--model", model_file]
        + ["--weights", "imagenet"],
        "labels: expected 4, one for each output of model 'small', got 10": ["predict", image]
        + ["--model", model_file, "--labels", "cifar10"],
        'labels: expected "imagenet", "cifar10", "cifar100" or a list of names, got \'mnist\'': [
            *["predict", image, "--model", model_file, "--labels", "mnist"]
        ],
    }
    for message, arguments in cases.items():
        assert main(arguments) == 2, arguments
        out, err = capsys.readouterr()
        assert err.startswith("keras-t2t: error: ") and err.count("\n") == 1
        assert message in err
        assert out == ""


def test_help_names_the_commands(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "predict" in capsys.readouterr().out


def test_a_reader_that_leaves_is_no_error(model_file, monkeypatch, capsys):
    """As with `keras-t2t predict ... | head -0`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["predict", str(PHOTOS), "--model", model_file]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.tensorflow
def test_export_then_evaluate_and_predict(folder, model_file, capsys):
    """As a user does: one model, two files, the same accuracy and the same classes."""
    labels = folder / "labels.txt"
    labels.write_text("first\nsecond\nthird\nfourth\n")
    for name in ("0_first", "1_second", "2_third", "3_fourth"):
        (folder / "data" / "val" / name).mkdir(parents=True)
    best = probabilities(keras.saving.load_model(model_file), folder / "china.jpg").argmax()
    named = sorted(path for path in (folder / "data" / "val").iterdir())[best]
    shutil.copy(folder / "china.jpg", named / "china.jpg")

    for name in ("small.tflite", "served"):
        destination = str(folder / name)
        arguments = ["export", model_file, destination, "--labels", str(labels)]
        assert main(arguments) == 0
        out, _ = capsys.readouterr()
        title, *rows = out.splitlines()
        assert title == destination and ["passed", "True"] in [row.split() for row in rows]
        assert main(arguments) == 2
        assert f"{destination} exists. Pass --force" in capsys.readouterr().err
        assert main([*arguments, "--force", "--no-verify", "--with-preprocessing"]) == 0
        capsys.readouterr()
        assert main(["evaluate", destination, "--data", str(folder / "data"), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["top1"] == 1.0 and found["images"] == 1 and "top5" not in found
        image = str(folder / "china.jpg")
        assert main(["predict", image, "--model", destination, "--top", "1", "--json"]) == 0
        (prediction,) = json.loads(capsys.readouterr().out)["predictions"]
        assert prediction["class"] == str(best)
        assert prediction["name"] == ["first", "second", "third", "fourth"][best]

    assert main(["evaluate", model_file, "--data", str(folder / "data")]) == 0
    assert capsys.readouterr().out.startswith("top-1 100.00%, 1 images, ")

    # A bad image ends it, or is left out; nothing is left of bad ones alone.
    (named / "broken.png").write_bytes(b"no image")
    arguments = ["evaluate", model_file, "--data", str(folder / "data")]
    assert main(arguments) == 2
    assert f"{named / 'broken.png'}: not an image" in capsys.readouterr().err
    assert main([*arguments, "--bad-images", "skip"]) == 1
    assert capsys.readouterr().out.startswith("top-1 100.00%, 1 images, 1 left out, ")
    assert main([*arguments, "--bad-images", "skip", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["skipped"] == 1
    (named / "china.jpg").unlink()
    assert main([*arguments, "--bad-images", "skip"]) == 2
    assert "expected images that can be decoded, got none in" in capsys.readouterr().err


@pytest.mark.tensorflow
def test_errors_of_export_are_one_line(model_file, folder, capsys):
    destination = str(folder / "small.tflite")
    broken = folder / "broken.tflite"
    broken.write_bytes(b"no model")
    cases = {
        "--precision must be one of": ["--precision", "int4"],
        "--calibration: expected some 16 to 100 images": ["--precision", "int8"],
        "empty: no such file": ["--precision", "int8", "--calibration", str(folder / "empty")],
        "notes.txt: not an image": ["--images", str(folder / "notes.txt")],
        "argument --batch-size: expected an integer of at least 1": ["--batch-size", "few"],
        "--weights: expected none with": ["--weights", "imagenet"],
    }
    for message, arguments in cases.items():
        assert main(["export", model_file, destination, *arguments]) == 2, arguments
        out, err = capsys.readouterr()
        assert err.startswith("keras-t2t: error: ") and err.count("\n") == 1
        assert message in err and out == ""
    assert main(["predict", str(folder / "china.jpg"), "--model", str(broken)]) == 2
    assert "broken.tflite: is not a complete LiteRT model" in capsys.readouterr().err
    assert main(["evaluate", str(broken), "--data", str(folder / "nowhere")]) == 2
    capsys.readouterr()
    assert not (folder / "small.tflite").exists()


def test_ctrl_c_ends_quietly(model_file, folder, monkeypatch, capsys):
    def predict_images(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("keras_t2t.inference.predict.predict_images", predict_images)
    assert main(["predict", str(folder), "--model", model_file]) == 130
    assert capsys.readouterr() == ("", "")


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"keras-t2t {keras_t2t.__version__}\n"


@pytest.mark.tensorflow
def test_examples_without_arguments_tell_their_use():
    for name in ("predict", "extract_features"):
        script = Path(__file__).parents[2] / "examples" / f"{name}.py"
        result = subprocess.run([sys.executable, script], capture_output=True, text=True)
        assert result.returncode == 1
        assert f"python examples/{name}.py t2t_vit_14" in result.stderr
        assert "Traceback" not in result.stderr
