"""Recipes: the published numbers, YAML, and what is made of them."""

import dataclasses

import keras
import pytest

import keras_t2t
from keras_t2t.training import (
    Recipe,
    finetune,
    finetune_cifar,
    load_recipe,
    published,
    save_recipe,
)
from keras_t2t.training.build import build_model, compile_model, make_schedule
from keras_t2t.training.recipe import RECIPES
from tests.training.replicas import MODEL, recipe

NAMES = ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("variant", "rate", "decay"),
    [
        ("t2t_vit_7", 1e-3, 0.03),
        ("t2t_vit_12", 1e-3, 0.03),
        ("t2t_vit_14", 5e-4, 0.05),
        ("t2t_vit_t_14", 5e-4, 0.05),
        ("t2t_vit_19", 5e-4, 0.065),
        ("t2t_vit_t_24", 5e-4, 0.065),
    ],
)
def test_published(variant, rate, decay):
    """The commands in the published README."""
    found = published(variant)
    assert (found.learning_rate, found.weight_decay) == (rate, decay)
    assert (found.epochs, found.cooldown_epochs, found.warmup_epochs) == (310, 10, 10)
    assert (found.batch_size, found.ema, found.clip_norm) == (512, 0.99996, None)
    assert found.model == {"drop_path_rate": 0.1}


@pytest.mark.parametrize("name", RECIPES)
def test_yaml_round_trip(name, tmp_path):
    save_recipe(RECIPES[name](), tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == RECIPES[name]()


def test_no_recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    for text, reason in {
        "epochs: 3": "without augmentation and preprocessing",
        "": "without augmentation and preprocessing",
        "[1]": "without",
        "a: [": "expected the node content",
        "!!python/object/apply:os.getcwd []": "could not determine a constructor",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=f"recipe.yaml: is not a recipe .*{reason}"):
            load_recipe(path)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("frozen", ["(["], "frozen: expected regular expressions, got '(['"),
        ("part_rates", {"([": 0.1}, "part_rates: expected regular expressions, got '(['"),
        ("part_rates", {"head": -1}, "part_rates: expected factors of at least 0, got -1"),
        ("weight_decay", -0.1, "weight_decay: expected at least 0, got -0.1"),
        ("warmup_epochs", -1, "warmup_epochs: expected at least 0, got -1"),
        ("cooldown_epochs", -1, "cooldown_epochs: expected at least 0, got -1"),
        ("final_rate", -1, "final_rate: expected at least 0, got -1"),
        ("clip_norm", -1.0, "clip_norm: expected above 0, got -1.0"),
        ("rate_per_images", 0, "rate_per_images: expected above 0, got 0"),
    ],
)
def test_wrong_numbers(field, value, message):
    with pytest.raises(ValueError) as error:
        Recipe(**{field: value})
    assert str(error.value).startswith(message)


def rates(chosen, steps=4):
    """Learning rate of every trainable variable at step 0, by its path."""
    model = build_model(chosen, NAMES, weights=False)
    compile_model(model, chosen, steps, 3)
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    rate = make_schedule(chosen, steps)(0)
    return {
        variable.path: float(optimizer.rate_of(variable, rate))
        for variable in model.trainable_variables
    }


def test_published_transfer():
    """Two groups, both down to 2e-4; class token and last norm in neither."""
    plain = {"variant": None, "model": MODEL, "preprocessing": recipe().preprocessing}
    chosen = dataclasses.replace(finetune_cifar(), **plain)
    found = rates(chosen)
    assert not [path for path in found if path.startswith(("class_token/", "norm/"))]
    for path, rate in found.items():
        assert rate == pytest.approx(0.05 if path.startswith("head/") else 5e-4, rel=1e-5), path
    model = build_model(chosen, NAMES, weights=False)
    compile_model(model, chosen, 4, 3)
    schedule = make_schedule(chosen, 4)
    model.optimizer.build(model.trainable_variables)
    for variable in model.trainable_variables:
        rate = float(model.optimizer.rate_of(variable, schedule(60 * 4)))
        assert rate == pytest.approx(2e-4, rel=1e-4)


def test_layer_decay_and_frozen():
    chosen = recipe(
        model={**MODEL, "depth": 2}, layer_decay=0.5, frozen=("t2t_block",), warmup_epochs=0
    )
    found = rates(chosen)
    assert not [path for path in found if path.startswith("t2t_block")]
    expected = {
        "head/kernel": 1,
        "norm/gamma": 1,
        "encoder_block_1/norm1/gamma": 1 / 2,
        "encoder_block_0/norm1/gamma": 1 / 4,
        "projection/kernel": 1 / 8,
        "class_token/class_token": 1 / 8,
    }
    for path, factor in expected.items():
        assert found[path] == pytest.approx(chosen.learning_rate * factor, rel=1e-5), path
    with pytest.raises(ValueError, match="frozen: 'blok' is found in no layer's name"):
        rates(dataclasses.replace(chosen, frozen=("blok",)))
    with pytest.raises(ValueError, match="part_rates: 'blok' is found in no variable's path"):
        rates(dataclasses.replace(chosen, part_rates={"blok": 0.1}))


def test_layer_decay_of_the_transfer_recipe():
    """The factor by depth multiplies the part's, here a hundredth for all but the head."""
    plain = {"variant": None, "model": {**MODEL, "depth": 2}}
    plain["preprocessing"] = recipe().preprocessing
    chosen = dataclasses.replace(finetune(), layer_decay=0.75, **plain)
    found = rates(chosen)
    expected = {
        "head/kernel": 0.05,
        "norm/gamma": 5e-4,
        "encoder_block_1/norm1/gamma": 5e-4 * 0.75,
        "encoder_block_0/norm1/gamma": 5e-4 * 0.75**2,
        "class_token/class_token": 5e-4 * 0.75**3,
    }
    for path, rate in expected.items():
        assert found[path] == pytest.approx(rate, rel=1e-5), path
    with pytest.raises(ValueError, match="final_rate: expected below the highest rate"):
        rates(dataclasses.replace(chosen, learning_rate=1e-4))


def test_the_rate_grows_with_the_batch():
    chosen = dataclasses.replace(Recipe(), batch_size=2048, rate_per_images=512)
    assert make_schedule(chosen, 10).peak == pytest.approx(4 * 5e-4)


@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_model(pooling, tmp_path):
    """Logits in float32 under mixed precision, and the preprocessing on board."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build_model(recipe(pooling=pooling), NAMES)
    assert model.output_shape == (None, 3)
    assert model.layers[-1].name == "head" and model.output.dtype == "float32"
    assert model.get_layer("preprocessing").preprocessing == recipe().preprocessing
    assert keras_t2t.model_class_names(model) == NAMES
    kernels = [v for v in model.trainable_variables if v.path.endswith("kernel")]
    for kernel in map(keras.ops.convert_to_numpy, kernels):
        bound = (6 / sum(kernel.shape)) ** 0.5  # Glorot's
        assert bound / 2 < abs(kernel).max() <= bound


def test_weights_of_ones_own_model(tmp_path):
    first = build_model(recipe(), NAMES)
    first.save(tmp_path / "first.keras")
    others = tuple("abcde")
    second = build_model(recipe(weights=str(tmp_path / "first.keras")), others)
    assert keras_t2t.model_class_names(second) == others
    for one, other in zip(first.weights, second.weights, strict=True):
        if not one.path.startswith("head/"):
            assert (keras.ops.convert_to_numpy(one) == keras.ops.convert_to_numpy(other)).all()
    with pytest.raises(ValueError, match="is not of this architecture"):
        build_model(
            recipe(weights=str(tmp_path / "first.keras"), model={**MODEL, "embed_dim": 32}), others
        )
    with pytest.raises(ValueError, match="model: .*'depht'"):
        build_model(recipe(model={"depht": 2}), NAMES)
