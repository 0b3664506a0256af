"""Import paths of 0.1.0: they work, or name their successor."""

import importlib
import sys
from pathlib import Path

import pytest

from keras_t2t.moved import MOVED

MODULES = (Path(__file__).parent / "fixtures/v010/modules.txt").read_text().split()
# What README, examples and scripts of 0.1.0 imported from its modules.
IMPORTED = {
    "data.augment": ["Augmentation"],
    "data.class_names": ["class_names", "decode_predictions"],
    "data.cropping": ["random_box", "random_flip", "resize"],
    "data.decoding": ["naming_bad_images"],
    "data.erasing": ["random_erasing"],
    "data.image_files": ["load_image"],
    "data.mixing": ["mix"],
    "data.pipeline": ["evaluation_batches", "training_batches"],
    "data.preprocessing": ["Preprocessing", "PreprocessedImages", "model_preprocessing"],
    "data.randaugment": ["rand_augment"],
    "data.sources": ["open_source"],
    "evaluate": ["evaluate"],
    "exporting.exporter": ["export"],
    "exporting.litert": ["xnnpack_partitions"],
    "exporting.metadata": ["Metadata"],
    "exporting.predictor": ["Predictor"],
    "exporting.rebuilding": ["for_inference", "rebuilt", "output_of"],
    "exporting.runners": ["open_runner"],
    "exporting.serving": ["serving_model"],
    "inspection.plot_style": ["BLUE", "GREEN", "ORANGE", "RED", "new_figure", "styled"],
    "inspection.pyramid": ["feature_pyramid"],
    "layers.validation": ["pair", "positive_int", "one_of"],
    "models.arrangement": ["ArrangedModel"],
    "models.t2t_vit": ["T2TViT"],
    "models.variants": ["list_variants"],
    "predict": ["find_images", "predict_images"],
    "training.checkpoints": ["Checkpoints"],
    "training.command": ["parse", "run"],
    "training.trainer": ["train"],
    "weights.checkpoint": ["read_checkpoint", "write_checkpoint"],
    "weights.convert": ["convert", "load_model"],
    "weights.download": ["fetch"],
    "weights.keras_files": ["read_model"],
    "weights.loading": ["load_checkpoint", "published_state_dict"],
    "weights.published": ["find"],
}


@pytest.mark.tensorflow  # where what brings TensorFlow can be imported
@pytest.mark.parametrize("module", MODULES)
def test_old_modules(module):
    name = module.removeprefix("keras_t2t.")
    if name in MOVED:
        with pytest.raises(ImportError) as error:
            importlib.import_module(module)
        text = f"{module} of keras_t2t 0.1.0 is now "
        assert str(error.value).startswith(text)
        found = [
            importlib.import_module(new) for new in str(error.value)[len(text) :].split(" and ")
        ]
    else:
        found = [importlib.import_module(module)]
    for old in IMPORTED.get(name, ()):
        assert any(hasattr(new, old) for new in found), old


def test_names_that_left_their_room():
    with pytest.raises(ImportError, match=r"0\.1\.0 is now keras_t2t\.Predictor$"):
        from keras_t2t.exporting import Predictor  # noqa: F401


def test_from_imports_name_the_successor():
    with pytest.raises(ImportError, match=r"keras_t2t\.cli .* is now keras_t2t\.commands\.main$"):
        from keras_t2t import cli  # noqa: F401
    assert "keras_t2t.cli" not in sys.modules


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="No module named 'keras_t2t.never'"):
        importlib.import_module("keras_t2t.never")
