"""Each private name in `compat.py` is there still, and no public one does the same.

Where a test fails because a public way has come, use that and take the function out of `compat.py`.
"""

import inspect

import keras
import numpy as np
import pytest

from keras_t2t import compat


def assert_private_only(owner, *names):
    """That `owner` has these private names, and none of them without its underscore."""
    for name in names:
        assert hasattr(owner, name)
        assert not hasattr(owner, name.lstrip("_")), f"{name} has become public"


@pytest.fixture
def optimizer():
    """One that was built for two variables, of which the second does not decay."""
    variables = [keras.Variable(keras.ops.ones(3), name=name) for name in ("first", "second")]
    optimizer = keras.optimizers.AdamW(weight_decay=0.1, use_ema=True)
    optimizer.exclude_from_weight_decay(variables[1:])
    optimizer.build(variables)
    return optimizer, variables


def test_sublayers():
    inner = keras.layers.Dense(2)
    outer = keras.layers.TimeDistributed(keras.layers.TimeDistributed(inner))
    assert compat.sublayers(outer) == [outer.layer, inner]
    assert_private_only(keras.layers.Layer, "_flatten_layers")
    # What a model has; a layer of PyTorch's backend is a module, whose `modules` are not Keras'.
    for name in ("layers", "sublayers", "submodules"):
        assert not hasattr(outer, name)


@pytest.mark.tensorflow
def test_compiled_by_xla():
    import tensorflow as tf

    def asks(jit_compile):
        found = []
        tf.function(lambda: found.append(compat.compiled_by_xla()), jit_compile=jit_compile)()
        return found

    assert asks(True) == [True]
    assert asks(False) == [False]
    # All that is public of XLA: a new name may be the one to ask.
    public = {name for name in dir(tf.xla) if not name.startswith("_")}
    assert public == {"experimental"}
    public = {name for name in dir(tf.xla.experimental) if not name.startswith("_")}
    assert public == {"compile", "jit_scope"}


def test_optimizer_hooks(optimizer):
    assert_private_only(keras.optimizers.Optimizer, *compat.OPTIMIZER_HOOKS)
    # Keras calls them, by name, each time.
    called = []
    optimizer, variables = optimizer
    for name in compat.OPTIMIZER_HOOKS:
        setattr(optimizer, name, lambda _, name=name: called.append(name))
    optimizer.apply([keras.ops.ones(3)] * 2, variables)
    assert sorted(called) == sorted(compat.OPTIMIZER_HOOKS)


def test_variable_index(optimizer):
    optimizer, variables = optimizer
    assert [compat.variable_index(optimizer, variable) for variable in variables] == [0, 1]
    assert_private_only(keras.optimizers.Optimizer, "_get_variable_index")


def test_uses_weight_decay(optimizer):
    optimizer, variables = optimizer
    assert [compat.uses_weight_decay(optimizer, v) for v in variables] == [True, False]
    assert_private_only(keras.optimizers.Optimizer, "_use_weight_decay")


def test_moving_averages(optimizer):
    optimizer, variables = optimizer
    pairs = compat.moving_averages(optimizer)
    assert [variable for variable, _ in pairs] == variables
    assert all(any(average is v for v in optimizer.variables) for _, average in pairs)
    assert_private_only(optimizer, "_model_variables_moving_average", "_trainable_variables")


def test_set_initializer():
    with keras.StatelessScope():
        variable = keras.Variable(keras.initializers.Ones(), shape=(2,))
        compat.set_initializer(variable, keras.initializers.Constant(3.0))
        assert_private_only(variable, "_initializer")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), [3, 3])


@pytest.mark.tensorflow
def test_litert_operations(tmp_path):
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.export(tmp_path / "dense.tflite", format="litert", verbose=False)
    interpreter = litert.Interpreter(str(tmp_path / "dense.tflite"))
    operations = compat.litert_operations(interpreter)
    assert "FULLY_CONNECTED" in [operation["op_name"] for operation in operations]
    assert_private_only(litert.Interpreter, "_get_ops_details")


def test_each_has_its_test():
    names = {name.lower() for name, value in vars(compat).items() if not name.startswith("_")}
    names -= {name for name, value in vars(compat).items() if inspect.ismodule(value)}
    assert {f"test_{name}" for name in names} <= globals().keys()
