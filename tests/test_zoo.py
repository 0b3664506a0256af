"""The factories: one for each variant, whose arguments editors, checkers and `help` see."""

import contextlib
import inspect
import io
import pickle

import keras
import numpy as np
import pytest

import keras_t2t
from keras_t2t import zoo
from tests import parity

FACTORIES = {name: item for name, item in vars(zoo).items() if isinstance(item, zoo.Factory)}
APPLICATIONS = "include_top weights input_tensor input_shape pooling classes classifier_activation"


def test_every_variant_has_a_factory():
    assert keras_t2t.list_variants() == list(parity.VARIANTS)
    assert [factory.variant for factory in FACTORIES.values()] == keras_t2t.list_variants()
    for name, factory in FACTORIES.items():
        assert name.lower() == factory.variant.replace("_", "")
        assert getattr(keras_t2t, name) is factory
    assert set(FACTORIES) <= set(keras_t2t.__all__)


def test_the_arguments_are_those_of_keras_applications():
    signature = inspect.signature(keras_t2t.T2TViT14)
    ours = list(signature.parameters)
    assert ours == [*APPLICATIONS.split(), "name", "skip_head", "kwargs"]
    theirs = inspect.signature(keras.applications.ResNet50).parameters
    assert [name for name in theirs if name in ours] == [*APPLICATIONS.split(), "name"]
    # Those of `create`, with the same defaults and types, but for the first.
    create = inspect.signature(keras_t2t.create)
    assert list(create.parameters.values())[1:] == list(signature.parameters.values())
    assert create.return_annotation is signature.return_annotation is keras.Model


def test_help_shows_the_arguments():
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        help(keras_t2t.T2TViT14)
    for name in (*APPLICATIONS.split(), "keras_t2t.create", "skip_head: bool = False"):
        assert name in text.getvalue()


def test_arguments_by_position_and_by_name():
    arguments = (False, None, None, (32, 32, 3), "avg", None, None, "own")
    model = keras_t2t.T2TViT7(*arguments, depth=1)
    assert (model.name, model.output_shape) == ("own", (None, 256))
    again = keras_t2t.create("t2t_vit_7", *arguments, depth=1)
    assert (again.name, again.output_shape) == ("own", (None, 256))
    model = keras_t2t.T2TViT7(input_shape=(32, 32, 3), classes=3, classifier_activation=None)
    assert model.get_layer("head").activation is keras.activations.linear
    assert (model.name, model.output_shape) == ("t2t_vit_7", (None, 3))


def test_a_factory_can_be_sent_to_another_process():
    assert pickle.loads(pickle.dumps(keras_t2t.T2TViT14)) == keras_t2t.T2TViT14


def test_whose_the_preprocessing_is():
    """What layers have made of the images, only who put them there knows."""
    images = keras.Input((32, 32, 3))
    small = {"depth": 1, "include_top": False}
    model = keras_t2t.T2TViT7(input_tensor=images, **small)
    assert keras_t2t.model_preprocessing(model).height == 32
    rescaled = keras.layers.Rescaling(2.0)(images)
    model = keras_t2t.T2TViT7(input_tensor=rescaled, **small)
    assert not any(layer.name == "preprocessing" for layer in model.layers)
    model = keras_t2t.T2TViT7(input_tensor=rescaled, preprocessing="cifar10", **small)
    assert keras_t2t.model_preprocessing(model).crop_fraction is None
    with pytest.raises(ValueError, match="`input_tensor` must be a Keras tensor"):
        keras_t2t.T2TViT7(input_tensor=np.zeros((1, 32, 32, 3)), **small)


def test_variants_are_the_defaults_of_the_network():
    """`Variant` repeats three of `T2TViT`'s defaults, so that it needs no Keras."""
    defaults = inspect.signature(keras_t2t.T2TViT).parameters
    for name in ("mlp_ratio", "token_mixer", "flavor", "growth_rate"):
        fields = keras_t2t.models.variants.Variant.__dataclass_fields__
        assert fields[name].default == defaults[name].default
