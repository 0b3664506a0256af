"""The state of a training as named arrays: weights, seeds, optimizer, moving average."""

import contextlib
import re

import keras
import numpy as np

from keras_t2t import compat


def _variables(model):
    groups = {
        "model": model.variables,  # the seeds of dropout and drop path included
        "optimizer": model.optimizer.variables,
    }
    return {
        # Paths alone need not be unique.
        _numberless(f"{group}/{index} {variable.path}"): variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def _numberless(name):
    """Without the number that tells how many models the process built before this one."""
    return re.sub(r"/seed_generator_\d+/", "/seed_generator/", name)


def read_state(model):
    """Returns the state of a compiled model whose optimizer is built, as NumPy arrays by name."""
    variables = _variables(model).items()
    return {name: keras.ops.convert_to_numpy(v) for name, v in variables} | random_state()


def write_state(model, arrays):
    """Puts arrays that `read_state` gave into a model of the same kind.

    Raises:
        ValueError: If they belong to another kind of model or optimizer.
    """
    for variable, array in matched(model, arrays):
        variable.assign(array)
    set_random_state(arrays)


def matched(model, arrays):
    """Returns pairs (variable, array) of a model's variables and what `read_state` gave of them.

    Raises:
        ValueError: If they belong to another kind of model or optimizer.
    """
    variables, random = _variables(model), random_state()
    arrays = {_numberless(name): array for name, array in arrays.items() if name not in random}
    here = {name: tuple(variable.shape) for name, variable in variables.items()}
    there = {name: array.shape for name, array in arrays.items()}
    if here != there:
        name = next(name for name in here | there if here.get(name) != there.get(name))
        raise ValueError(
            f"The checkpoint is of another model or optimizer: the shape of {name!r} is "
            f"{there.get(name)} there, {here.get(name)} here."
        )
    return [(variable, arrays[name]) for name, variable in variables.items()]


def random_state():
    """The state of random numbers that no variable holds: on torch, of Keras' dropout."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = {"torch": torch.get_rng_state()}
    states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return {f"random/{name}": state.numpy().copy() for name, state in states.items()}


def set_random_state(arrays):
    """Puts back what `random_state` gave; other arrays may be among them."""
    for name in random_state().keys() & arrays.keys():
        import torch

        state = torch.from_numpy(arrays[name].copy())
        if name == "random/torch":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, int(name.removeprefix("random/cuda")))


def not_finite(arrays):
    """The name of the first array that holds a NaN or an infinity, or `None`."""
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            return name
    return None


def averages(model):
    """Pairs `(variable, its moving average)` of the trained weights; none without an average."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return compat.moving_averages(optimizer) if optimizer.use_ema else []


@contextlib.contextmanager
def averaged_weights(model):
    """The model has its averaged weights inside, and the trained ones again after."""
    pairs = averages(model)
    trained = [keras.ops.convert_to_numpy(variable) for variable, _ in pairs]
    for variable, average in pairs:
        variable.assign(keras.ops.convert_to_numpy(average))
    try:
        yield
    finally:
        for (variable, _), value in zip(pairs, trained, strict=True):
            variable.assign(value)
