"""`visualize`, and the commands `keras-t2t visualize` and `keras-t2t summary`."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from keras_t2t import model_preprocessing
from keras_t2t.commands.main import main
from keras_t2t.inference.predict import predict_images
from keras_t2t.inspection import attention_maps, complexity, report, visualize
from tests.inspection.small_models import images, small_model

# What is drawn is tested on all backends, in the other modules.
pytestmark = [pytest.mark.slow, pytest.mark.above_backends]

PHOTOS = Path(sklearn.datasets.__file__).parent / "images"
PHOTO = PHOTOS / "flower.jpg"
PICTURES = "attention dead_channels feature_maps heads rollout stages".split()


def model_for_photos(**arguments):
    return small_model(preprocessing="imagenet", name="tiny", **arguments)


class Page(HTMLParser):
    """The addresses that a page takes something from, and its text."""

    def __init__(self, html):
        super().__init__()
        self.addresses, self.text, self.hidden = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.addresses += [attributes[key] for key in ("src", "href") if attributes.get(key)]
        if tag == "section" and "hidden" in attributes:
            self.hidden.append(attributes.get("id"))

    def handle_data(self, data):
        self.text.append(data)


def test_report(tmp_path):
    model, folder = model_for_photos(), tmp_path / "a" / "report"
    labels = ["ant", "bee", "cat & dog", "deer", "elk"]
    page = visualize(model, [PHOTO, PHOTOS / "china.jpg"], folder, labels=labels, top=3)
    assert page == folder / "report.html"
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted([*(f"{name}.png" for name in PICTURES), "report.html"])
    for name in PICTURES:
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.width == 1400

    html = page.read_text(encoding="utf-8")
    parsed = Page(html)
    # Self-contained: all pictures are in the page, and each is one of the files or the image.
    assert parsed.addresses and all(src.startswith("data:image/png;") for src in parsed.addresses)
    assert "://" not in html and "@import" not in html and "url(" not in html
    for name in PICTURES:
        assert base64.b64encode((folder / f"{name}.png").read_bytes()).decode() in html
    assert parsed.hidden == ["explorer"]  # until its script runs

    text = " ".join(" ".join(parsed.text).split())
    assert "What tiny sees" in text and "flower.jpg" in text and "over 2 images" in text
    assert f"{complexity(model).macs:,}" in text
    (result,) = predict_images(model, [PHOTO], 3, labels)
    assert [line["name"] for line in result["predictions"]] == re.findall(
        r"(ant|bee|cat & dog|deer|elk) \d", text
    )
    for line in result["predictions"]:
        assert f"{line['probability']:.1%}" in text


def test_the_pages_script_gets_the_attention(tmp_path):
    model = model_for_photos()
    html = visualize(model, [PHOTO], tmp_path).read_text(encoding="utf-8")
    data = json.loads(re.search(r"^const data = (.*);$", html, re.MULTILINE)[1])
    assert (data["rows"], data["columns"], data["aspect"]) == (2, 2, 24 / 32)
    assert data["blocks"] == ["block 0", "block 1"]
    weights = np.frombuffer(base64.b64decode(data["weights"]), "uint8").reshape(2, 5, 4)
    maps = attention_maps(model, model_preprocessing(model)(PHOTO)[None])
    for block in range(2):
        expected = maps[f"encoder_block_{block}"][0].mean(axis=0)[:, 1:]
        expected = 255 * expected / expected.max(axis=-1, keepdims=True)
        np.testing.assert_allclose(weights[block], expected, atol=0.51)


@pytest.mark.parametrize(
    ("arguments", "left_out"),
    [({"token_mixer": "convolution"}, "stages"), ({"include_top": False}, None)],
    ids=str,
)
def test_what_a_model_does_not_have_is_left_out(arguments, left_out, tmp_path):
    page = visualize(model_for_photos(**arguments), [PHOTO], tmp_path)
    html = page.read_text(encoding="utf-8")
    there = {path.stem for path in tmp_path.glob("*.png")}
    assert there == set(PICTURES) - {left_out}
    assert len(Page(html).hidden) == (2 if left_out else 1)
    assert ("no classification head" in html) == ("include_top" in arguments)


def test_grey_images(tmp_path):
    Image.fromarray((255 * images(1, (32, 32))[0].clip(0, 1)).astype("uint8")).save(
        tmp_path / "grey.png"
    )
    model = model_for_photos(input_shape=(32, 32, 1))
    page = visualize(model, [tmp_path / "grey.png"], tmp_path / "report")
    assert "32 x 32 px, grey" in page.read_text(encoding="utf-8")


def test_names_are_text_not_markup(tmp_path):
    photo = tmp_path / "<b>&.png"
    Image.new("RGB", (40, 40), "red").save(photo)
    html = visualize(model_for_photos(), [photo], tmp_path / "report", ["<i>"] * 5).read_text()
    assert "&lt;b&gt;&amp;.png" in html and "&lt;i&gt;" in html
    assert "<b>&.png" not in html and "<i>" not in html


def test_no_script_ends_early(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_explorer", lambda *_: {"blocks": ["</script><script>stolen()"]})
    html = visualize(model_for_photos(), [PHOTO], tmp_path).read_text()
    assert "\\u003c/script>\\u003cscript>stolen()" in html and "<script>stolen" not in html


def test_nothing_is_overwritten_unasked(tmp_path):
    (tmp_path / "heads.png").write_text("mine")
    with pytest.raises(FileExistsError, match="heads.png exists"):
        visualize(model_for_photos(), [PHOTO], tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    visualize(model_for_photos(), [PHOTO], tmp_path, overwrite=True)
    assert (tmp_path / "heads.png").read_bytes().startswith(b"\x89PNG")


def test_visualize_command(tmp_path, capsys):
    model, out = tmp_path / "tiny.keras", tmp_path / "out"
    model_for_photos().save(model)
    arguments = ["visualize", str(PHOTO), "--model", str(model), "--out", str(out)]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{out / 'report.html'}\n"
    assert "flower.jpg" in (out / "report.html").read_text()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error == f"keras-t2t: error: {out / 'report.html'} exists. Pass --force to replace it.\n"
    assert main([*arguments, "--force"]) == 0
    arguments[1] = str(tmp_path / "missing.jpg")
    assert main([*arguments, "--force"]) == 2
    assert "missing.jpg" in capsys.readouterr().err.splitlines()[-1]


def test_summary_command(tmp_path, capsys):
    plot = tmp_path / "cost.png"
    assert main(["summary", "t2t_vit_7", "t2t_vit_t_14", "--plot", str(plot)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["variant", "t2t_vit_7", "t2t_vit_t_14"]
    with Image.open(plot) as picture:
        assert picture.width == 1400
    assert main(["summary", "t2t_vit_7", "--plot", str(plot)]) == 2
    assert capsys.readouterr().err.endswith(f"{plot} exists. Pass --force to replace it.\n")
    assert main(["summary", "t2t_vit_8"]) == 2
    assert "expected some of t2t_vit_7, " in capsys.readouterr().err


def test_a_head_of_any_name_is_one(tmp_path):
    body = model_for_photos(include_top=False, pooling="token")
    features = visualize(body, [PHOTO], tmp_path / "features").read_text(encoding="utf-8")
    assert "no classification head" in features
    model = keras.Model(body.input, keras.layers.Dense(2, name="classes")(body.output))
    page = visualize(model, [PHOTO], tmp_path / "report", labels=["ant", "bee"])
    html = page.read_text(encoding="utf-8")
    assert "no classification head" not in html and "<span>bee</span>" in html


def test_no_picture_of_an_earlier_model_is_left(tmp_path):
    visualize(model_for_photos(), [PHOTO], tmp_path)
    assert (tmp_path / "stages.png").exists()
    visualize(model_for_photos(token_mixer="convolution"), [PHOTO], tmp_path, overwrite=True)
    assert not (tmp_path / "stages.png").exists()


def test_no_image(tmp_path):
    with pytest.raises(ValueError, match="images: expected at least one image file, got none"):
        visualize(model_for_photos(), [], tmp_path / "report")
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("below", [".", "sub"])
def test_a_file_in_place_of_the_folder(below, tmp_path):
    (tmp_path / "text.txt").write_text("mine")
    with pytest.raises(NotADirectoryError, match="folder: expected a folder, but .*text.txt is a"):
        visualize(None, [PHOTO], tmp_path / "text.txt" / below)


def test_visualize_command_looks_before_it_works(tmp_path, capsys):
    """The model, whose file is none, is never asked for."""
    model = tmp_path / "none.keras"
    model.write_text("no model")
    (tmp_path / "text.txt").write_text("mine")
    (tmp_path / "heads.png").write_bytes(b"\xff\xfe")
    cases = {
        "--out: expected a folder, but": ["--out", str(tmp_path / "text.txt")],
        "heads.png exists. Pass --force": ["--out", str(tmp_path)],
        "--labels: there is no file nope.txt": ["--out", "x", "--labels", "nope.txt"],
        "--labels: expected a text file in UTF-8, got": [
            *["--out", "x", "--labels", str(tmp_path / "heads.png")]
        ],
    }
    for message, arguments in cases.items():
        assert main(["visualize", str(PHOTO), "--model", str(model), *arguments]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_summary_command_looks_before_it_counts(tmp_path, capsys):
    (tmp_path / "cost.png").write_text("mine")
    cases = {
        "--plot: expected a file that ends in .png, .svg or .pdf": tmp_path / "cost.bad",
        "cost.png exists. Pass --force": tmp_path / "cost.png",
    }
    for message, plot in cases.items():
        assert main(["summary", "t2t_vit_7", "--plot", str(plot)]) == 2
        out, err = capsys.readouterr()
        assert message in err and err.count("\n") == 1 and out == ""
