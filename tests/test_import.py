"""What `import keras_t2t` loads, and what Keras knows after it."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_t2t

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def fresh(code, *arguments, **environment):
    """The words that a fresh process prints."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.tensorflow  # no backend is loaded
def test_import_loads_no_framework():
    code = """
import sys
sys.argv[0] = "/usr/bin/keras-t2t"  # which 0.1.0 took for the command
import keras_t2t
import keras_t2t.class_names, keras_t2t.compat, keras_t2t.data.augment, keras_t2t.exporting.options
import keras_t2t.files, keras_t2t.image_files, keras_t2t.models.variants, keras_t2t.training.options
import keras_t2t.training.recipe, keras_t2t.weights.published
assert "T2TViT14" in dir(keras_t2t) and "AdamW" in dir(keras_t2t.training)
print(keras_t2t.__version__, *sys.modules)
"""
    version, *loaded = fresh(code)
    assert version == keras_t2t.__version__
    assert not {"keras", "tensorflow", "jax", "torch", "matplotlib"} & set(loaded)


@pytest.mark.above_backends
def test_import_after_keras_loads_nothing_heavy():
    # Each of these takes seconds or belongs to an extra.
    heavy = {"tensorflow", "tensorflow_datasets", "keras_cv", "keras_core", "torch", "matplotlib"}
    code = """
import sys
import keras
before = set(sys.modules)
import keras_t2t
print(*set(sys.modules) - before)
"""
    new = fresh(code)
    assert "keras_t2t" in new
    assert [name for name in new if name.split(".")[0] in heavy] == []


@pytest.fixture(scope="module")
def compiled_file(tmp_path_factory):
    """A model with layers, an optimizer and a schedule of this package."""
    model = keras_t2t.T2TViT((32, 32, 3), token_dim=8, embed_dim=16, depth=1, num_heads=2)
    schedule = keras_t2t.training.WarmupCosine(1e-3, 10, 5)
    model.compile(keras_t2t.training.AdamW(schedule), "categorical_crossentropy")
    path = tmp_path_factory.mktemp("model") / "compiled.keras"
    model.save(path)
    return path


@pytest.mark.above_backends
@pytest.mark.parametrize("order", ["import keras_t2t, keras", "import keras, keras_t2t"])
def test_keras_finds_every_class(order, compiled_file):
    code = f"""
{order}
registered = [name for name in keras.saving.get_custom_objects() if name.startswith("keras_t2t>")]
import sys
model = keras.saving.load_model(sys.argv[1])
learning_rate = type(model.optimizer._learning_rate).__module__
print(type(model.optimizer).__module__, learning_rate, *registered)
"""
    optimizer, schedule, *registered = fresh(code, compiled_file)
    assert (optimizer, schedule) == ("keras_t2t.training.optimizer", "keras_t2t.training.schedule")
    sources = [path.read_text() for path in (ROOT / "keras_t2t").rglob("*.py")]
    count = sum(source.count("@keras.saving.register_keras_serializable(") for source in sources)
    assert len(registered) == count > 15


@pytest.mark.tensorflow  # each of them on one backend
@pytest.mark.parametrize(
    "module",
    ["layers.t2t_block", "models.arranged_model", "preprocessing_layer", "training.optimizer"],
)
def test_whichever_module_imports_keras(module):
    """The others are registered in the middle of it."""
    code = f"import keras_t2t.{module}, keras; print(*keras.saving.get_custom_objects())"
    registered = set(fresh(code, KERAS_BACKEND="jax"))
    assert {f"keras_t2t>{name}" for name in ("MLP", "ArrangedModel", "WarmupCosine")} <= registered
    assert {f"keras_t2t>{name}" for name in ("PreprocessedImages", "AdamW")} <= registered


PUBLIC = """
Predictor Preprocessing T2TViT T2TViT10 T2TViT12 T2TViT14 T2TViT14ResNeXt T2TViT14SE T2TViT14Wide
T2TViT16Ghost T2TViT19 T2TViT24 T2TViT7 T2TViTDense T2TViTt14 T2TViTt19 T2TViTt24 convert create
data decode_predictions export feature_pyramid fuse inspection layers list_variants load_checkpoint
model_class_names model_preprocessing preprocess_input published_state_dict training
"""


@pytest.mark.parametrize(
    ("room", "public"),
    [
        ("", PUBLIC),
        (".data", "Augmentation evaluation_batches open_source training_batches"),
        (".exporting", "export"),
        (".inference", "Predictor"),
        (
            ".inspection",
            """Complexity DeadChannels LayerComplexity attention_maps attention_rollout complexity
            class_token_attention dead_channels feature_maps feature_pyramid on_grid plot_attention
            plot_complexity plot_dead_channels plot_feature_maps save_figure summary_table
            token_grid visualize""",
        ),
        (
            ".training",
            """SGD AdamW LossNotFinite Options Recipe TrainingInterrupted WarmupCosine finetune
            finetune_cifar load_recipe published save_recipe small train""",
        ),
    ],
)
def test_public_names(room, public):
    module = importlib.import_module(f"keras_t2t{room}")
    assert set(public.split()) <= set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="anything"):
        module.anything  # noqa: B018


ROOMS = ("", "data", "exporting", "inference", "inspection", "layers", "models", "training")
EVERYTHING = f"""
import importlib
import keras_t2t, keras
for room in {ROOMS!r}:
    module = importlib.import_module(f"keras_t2t.{{room}}".rstrip("."))
    for name in dir(module):
        getattr(module, name)
"""


def lines_of(code):
    """What a fresh process prints, without times, numbers and places."""
    environment = {key: value for key, value in os.environ.items() if "TF_CPP" not in key}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return [
        re.sub(r"0x\w+|\d+", "N", line) for line in (result.stdout + result.stderr).splitlines()
    ]


@pytest.mark.tensorflow
def test_import_prints_nothing():
    assert lines_of("import keras_t2t; dir(keras_t2t)") == []
    # All that is public adds nothing to what Keras, TensorFlow and TFDS print when they are loaded.
    assert lines_of(EVERYTHING) == lines_of("import keras, tensorflow, tensorflow_datasets")
