"""What a user calls tells the types of its arguments and of its result."""

import importlib
import inspect

import pytest

import keras_t2t

ROOMS = ("data", "exporting", "inference", "inspection", "layers", "training")


def public():
    """`{name: function or class}` of all that the package and its rooms name."""
    found = {}
    for room in ("", *(f".{room}" for room in ROOMS)):
        module = importlib.import_module(keras_t2t.__name__ + room)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                found.setdefault(value, f"{room}.{name}".lstrip("."))
    return {name: value for value, name in found.items()}


def unannotated(value):
    signature = inspect.signature(value.__init__ if inspect.isclass(value) else value)
    some = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.name != "self" and parameter.kind in some
        if parameter.annotation is parameter.empty
    ]
    # A decorator may add the annotation of the result.
    if inspect.isfunction(value) and not hasattr(value, "__wrapped__"):
        found += ["return"] if signature.return_annotation is signature.empty else []
    return found


@pytest.mark.tensorflow
def test_public_names_are_annotated():
    named = public()
    assert len(named) > 60
    # Keras' own arguments, which its layer without ones of its own has.
    keras_own = {"activity_regularizer", "trainable", "dtype", "autocast", "name"}
    found = {name: set(unannotated(value)) - keras_own for name, value in named.items()}
    assert {name: missing for name, missing in found.items() if missing} == {}
