"""README and docs/: every block runs or says why not, every link leads somewhere, no name lacks."""

import contextlib
import importlib
import inspect
import re
import shlex
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import sybil
from PIL import Image
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

import keras_t2t
from keras_t2t.commands.main import main
from keras_t2t.weights import pretrained
from keras_t2t.weights.download import cache_folder
from tests.test_annotations import ROOMS

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))
PAGES = ["README.md", *PAGES]
# Export and MirroredStrategy need it.
ON_TENSORFLOW = {"README.md", "docs/guides/devices.md", "docs/guides/edge.md"}
# How a block says that it is not run here, and why. The site shows it above the block.
MARK = re.compile(r' title="not run in the tests: .+"')
RUNS, SHOWN = {"python", "shell"}, {"text", "bibtex"}

find_fences = RawFencedCodeBlockLexer(re.compile(r"(?P<language>\w*)(?P<rest>.*)$\n", re.M))


def fences(page):
    """Each fenced block of a page as its language, the rest of that line, and its text."""
    document = sybil.Document((ROOT / page).read_text(encoding="utf-8"), page)
    return [tuple(region.lexemes.values()) for region in find_fences(document)]


def runnable(document):
    """Sybil's parser of the blocks that run."""
    evaluators = {"python": PythonEvaluator(), "shell": run_shell}
    for region in find_fences(document):
        if region.lexemes["language"] in evaluators and not region.lexemes["rest"]:
            region.parsed = region.lexemes["source"]
            region.evaluator = evaluators[region.lexemes["language"]]
            yield region


def run_shell(example):
    """Runs our commands in this process, where Keras is loaded already."""
    for line in example.parsed.replace("\\\n", "").splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        program, *words = words
        assert program == "keras-t2t", f"mark what the tests do not run: {line}"
        with contextlib.ExitStack() as stack:
            if words[-2:-1] == [">"]:
                file = stack.enter_context(open(words[-1], "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(file))
                words = words[:-2]
            try:
                code = main(words)
            except SystemExit as end:  # of an option such as --print-config
                code = end.code
            assert code == 0, line


def uncompiled(compile):
    """Compiling takes a minute for each model on TensorFlow, and is tested elsewhere."""

    def compiled(self, *args, jit_compile=None, **kwargs):
        eager = keras.backend.backend() == "tensorflow"
        return compile(self, *args, jit_compile=False, run_eagerly=eager, **kwargs)

    return compiled


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder that the pages speak of: photos, a small model, and published weights in cache."""
    folder = tmp_path_factory.mktemp("documentation")
    generator = np.random.default_rng(0)
    images = [
        f"photos/{split}/{name}/{index}.jpg"
        for split, count in (("train", 4), ("val", 1))
        for name in ("cat", "dog")
        for index in range(count)
    ]
    for path in (*images, "cat.jpg", "dog.jpg"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (6, 8, 3), "uint8")
        Image.fromarray(pixels).resize((64, 48)).save(folder / path)
    (folder / "examples").symlink_to(ROOT / "examples")
    model = keras_t2t.T2TViT(
        (28, 28, 3),
        soft_splits=((7, 4, 2), (3, 2, 1)),
        depth=2,
        embed_dim=64,
        num_heads=2,
        token_dim=16,
        classes=2,
        class_names=("cat", "dog"),
        preprocessing="cifar10",
    )
    model.save(folder / "my.keras")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.Model, "compile", uncompiled(keras.Model.compile))
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        cache_folder().mkdir(parents=True)
        kept = cache_folder() / "71.7_T2T_ViT_7.safetensors"
        pretrained.write_file(kept, keras_t2t.T2TViT7(), "t2t_vit_7", False)
        yield folder


def pages_that_run():
    for page in PAGES:
        mark = "tensorflow" if page in ON_TENSORFLOW else "above_backends"
        if any(language in RUNS and not rest for language, rest, _ in fences(page)):
            yield pytest.param(page, marks=getattr(pytest.mark, mark))


@pytest.mark.slow
@pytest.mark.parametrize("page", list(pages_that_run()))
def test_blocks_run(page, files, tmp_path, monkeypatch):
    shutil.copytree(files, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for example in sybil.Document.parse(str(ROOT / page), runnable):
        example.evaluate()


@pytest.mark.above_backends
@pytest.mark.parametrize("page", PAGES)
def test_what_does_not_run_says_so(page):
    for language, rest, source in fences(page):
        if language in RUNS:
            assert not rest or MARK.fullmatch(rest), f"{rest}: {source}"
        else:
            assert language in SHOWN, source


@pytest.mark.above_backends
def test_most_blocks_run():
    rests = [rest for page in PAGES for language, rest, _ in fences(page) if language in RUNS]
    assert rests.count("") > 0.6 * len(rests)


@pytest.mark.above_backends
def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 180


@pytest.mark.above_backends
@pytest.mark.parametrize("page", PAGES)
def test_links_resolve(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    text = re.sub(r"^([ \t]*)```.*?^\1```", "", text, flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        path = (ROOT / page).parent / path if path else ROOT / page
        if path.name == "command_line.md":  # made when the site is built, which checks links too
            continue
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target


def anchors(path):
    """The anchors of a page's headings, as both GitHub and MkDocs make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M)
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings]
    return {re.sub(r"\s+", "-", heading.strip()) for heading in plain}


@pytest.mark.above_backends
def test_every_public_name_is_in_the_reference():
    reference = "".join(path.read_text() for path in (ROOT / "docs/reference").glob("*.md"))
    named = re.findall(r"^::: keras_t2t\.(\S+)$", reference, re.M)
    assert len(named) == len(set(named))
    found = set()
    for name in named:  # each is there, under this very name
        *rooms, last = name.split(".")
        room = importlib.import_module(".".join((keras_t2t.__name__, *rooms)))
        found.add(id(getattr(room, last)))
    for room in ("", *(f".{room}" for room in ROOMS)):
        module = importlib.import_module(keras_t2t.__name__ + room)
        public = {name: getattr(module, name) for name in module.__all__}
        missing = [
            name
            for name, value in public.items()
            if not inspect.ismodule(value) and name != "__version__" and id(value) not in found
        ]
        assert missing == [], module.__name__
