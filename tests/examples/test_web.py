"""The page in a browser: it sees the pixels that Pillow gives, and answers as Python does."""

import functools
import http.server
import runpy
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import keras_t2t

pytestmark = pytest.mark.tensorflow
build = runpy.run_path(str(Path(__file__).parents[2] / "examples/web/build.py"))["build"]
CHROMIUM = shutil.which("chromium")
NPM = shutil.which("npm")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A photograph as it is, a tall part of it, and a small one."""
    folder = tmp_path_factory.mktemp("photos")
    photo = Image.fromarray(pytest.importorskip("sklearn.datasets").load_sample_image("china.jpg"))
    photo.save(folder / "wide.png")
    photo.crop((100, 20, 271, 400)).save(folder / "tall.png")
    photo.resize((30, 20)).save(folder / "small.png")
    return folder


def small_model(channels):
    model = keras_t2t.T2TViT(
        (32, 40, channels),
        ((7, 4, 2), (3, 2, 1)),
        token_dim=8,
        embed_dim=16,
        depth=1,
        num_heads=2,
        classes=7,
        preprocessing="imagenet",
        seed=3,
    )
    # Initial weights are so small that all classes come out alike.
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(16, 7)))
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Path of an exported model, by the number of its channels."""
    folder = tmp_path_factory.mktemp("models")

    @functools.cache
    def export(channels):
        path = folder / f"{channels}.onnx"
        keras_t2t.export(small_model(channels), path, with_preprocessing=True, with_softmax=True)
        return path

    return export


@pytest.fixture(scope="module")
def served(exported, tmp_path_factory):
    """Address of the page with that model, on loopback."""
    if NPM is None:
        pytest.skip("npm is not installed")
    servers = []

    @functools.cache
    def serve(channels):
        folder = tmp_path_factory.mktemp("site") / "page"
        build(exported(channels), folder)
        handler = functools.partial(Quiet, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("the Debian package chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    offline = ("--disable-background-networking", "--disable-component-update", "--disable-sync")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=("--no-sandbox", "--disable-gpu", *offline)
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, served):
    """The page with a model, once it is ready."""
    pages, asked_elsewhere = [], []

    def refuse(route):
        asked_elsewhere.append(route.request.url)
        route.abort()

    def open_page(channels):
        address = served(channels)
        page = browser.new_page()
        pages.append(page)
        page.route(lambda url: not url.startswith((address, "data:")), refuse)
        page.goto(address)
        page.locator("#status", has_not_text="Loading").wait_for(timeout=60_000)
        assert page.locator("#status").inner_text() == "Ready."
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not asked_elsewhere


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def drop(page, path):
    """Drops a file onto the page, as a hand would."""
    data = page.evaluate_handle(
        """([name, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name));
            return transfer;
        }""",
        [path.name, list(path.read_bytes())],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": data})


@pytest.mark.parametrize("channels", [3, pytest.param(1, marks=pytest.mark.long)])
def test_the_page_answers_as_python_does(channels, exported, open_page, photos):
    page = open_page(channels)
    predictor = keras_t2t.Predictor(exported(channels))
    for photo in sorted(photos.iterdir()):
        drop(page, photo)
        page.get_by_text(f"{photo.name}, ").wait_for(timeout=60_000)
        lines = page.locator("#classes li").all()
        (expected,) = predictor.predict([photo])
        best = np.argsort(expected)[::-1][:5]
        assert [int(line.get_attribute("data-class")) for line in lines] == best.tolist()
        shown = [float(line.get_attribute("data-probability")) for line in lines]
        np.testing.assert_allclose(shown, expected[best], atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizes_as_pillow(interpolation, open_page, photos):
    page = open_page(3)
    image = Image.open(photos / "tall.png").crop((30, 200, 91, 277))
    for width, height in ((31, 17), (97, 83), (20, 160), (61, 40)):
        resized = page.evaluate(
            """async ([data, width, height, size, interpolation]) => {
                const { resize } = await import("./resize.js");
                const image = { data: new Uint8ClampedArray(data), width, height };
                return Array.from(resize(image, ...size, interpolation).data);
            }""",
            [
                list(image.convert("RGBA").tobytes()),
                *image.size,
                [width, height],
                interpolation,
            ],
        )
        resized = np.uint8(resized).reshape(height, width, 4)[..., :3]
        # In two steps, since the order of the two is another in Pillow 13 than before.
        kernel = Image.Resampling[interpolation.upper()]
        expected = image.resize((width, image.height), kernel).resize((width, height), kernel)
        np.testing.assert_array_equal(resized, np.asarray(expected))


def test_says_what_it_cannot_read(open_page, tmp_path):
    page = open_page(3)
    (tmp_path / "notes.txt").write_text("no image")
    drop(page, tmp_path / "notes.txt")
    page.get_by_text("notes.txt: not an image that this browser can read").wait_for(timeout=10_000)


def test_build_refuses_other_models(exported, tmp_path):
    path = tmp_path / "logits.onnx"
    keras_t2t.export(small_model(3), path, verify=False)
    with pytest.raises(ValueError, match="logits.onnx: expected a model of .*--with-softmax"):
        build(path, tmp_path / "page")
    path = tmp_path / "four.onnx"
    keras_t2t.export(
        small_model(3), path, batch_size=4, with_preprocessing=True, with_softmax=True, verify=False
    )
    with pytest.raises(ValueError, match="four.onnx: expected a model of batch 1 or dynamic"):
        build(path, tmp_path / "page")
    (tmp_path / "notes").mkdir()
    with pytest.raises(ValueError, match="notes exists and is no page"):
        build(exported(3), tmp_path / "notes")
    assert not (tmp_path / "page").exists()
