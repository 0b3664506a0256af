"""The state of a training as named arrays: weights, seeds, optimizer, moving average."""

import contextlib

import keras
import numpy as np


def _variables(model):
    groups = {
        "model": model.variables,  # the seeds of dropout and drop path included
        "optimizer": model.optimizer.variables,
    }
    return {
        # Paths alone need not be unique.
        f"{group}/{index} {variable.path}": variable
        for group, variables in groups.items()
        for index, variable in enumerate(variables)
    }


def read_state(model):
    """Returns the state of a compiled model whose optimizer is built, as NumPy arrays by name."""
    arrays = {
        name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(model).items()
    }
    return arrays | random_state()


def write_state(model, arrays):
    """Puts arrays that `read_state` gave into a model of the same kind.

    Raises:
        ValueError: If they belong to another kind of model or optimizer.
    """
    variables = _variables(model)
    random = {name: arrays[name] for name in random_state() if name in arrays}
    arrays = {name: array for name, array in arrays.items() if name not in random}
    for name, variable in variables.items():
        if name not in arrays or arrays[name].shape != tuple(variable.shape):
            found = f"shape {arrays[name].shape}" if name in arrays else "none"
            raise ValueError(
                f"The checkpoint is of another model or optimizer. Expected {name!r} of shape "
                f"{tuple(variable.shape)}, got {found}."
            )
    if len(arrays) > len(variables):
        unknown = next(name for name in arrays if name not in variables)
        raise ValueError(f"The checkpoint is of another model or optimizer. Unknown: {unknown!r}.")
    for name, variable in variables.items():
        variable.assign(arrays[name])
    set_random_state(random)


def random_state():
    """The state of random numbers that no variable holds: on torch, of Keras' dropout."""
    if keras.backend.backend() != "torch":
        return {}
    import torch

    states = {"torch": torch.get_rng_state()}
    states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return {f"random/{name}": state.numpy().copy() for name, state in states.items()}


def set_random_state(arrays):
    """Puts back what `random_state` gave."""
    if not arrays:
        return
    import torch

    for name, array in arrays.items():
        state = torch.from_numpy(array.copy())
        if name == "random/torch":
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, int(name.removeprefix("random/cuda")))


def not_finite(arrays):
    """The name of the first array that holds a NaN or an infinity, or `None`."""
    return next(
        (
            name
            for name, array in arrays.items()
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all()
        ),
        None,
    )


def averages(model):
    """Pairs `(variable, its moving average)` of the trained weights; none without an average."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        return []
    return list(
        zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
    )


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
