"""Checks that the layers' arguments and inputs share."""

import numbers


def pair(value, name: str, minimum: int) -> tuple[int, int]:
    """Returns `value`, an int or a pair of ints of at least `minimum`, as a tuple of two ints."""
    try:
        items = [value, value] if isinstance(value, numbers.Integral) else list(value)
    except TypeError:
        items = []
    ints = [int(n) for n in items if isinstance(n, numbers.Integral) and not isinstance(n, bool)]
    if len(items) != 2 or len(ints) != 2 or min(ints) < minimum:
        raise ValueError(
            f"`{name}` must be an int of at least {minimum} or a pair of them. "
            f"Received: {name}={value!r}"
        )
    return ints[0], ints[1]


def positive_int(value, name: str, most: int = 2**24) -> int:
    """Returns `value`, an int of at least 1 and at most `most`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or int(value) < 1:
        raise ValueError(f"`{name}` must be a positive int. Received: {name}={value!r}")
    if int(value) > most:
        raise ValueError(f"`{name}` must be at most {most}. Received: {name}={value!r}")
    return int(value)


def positive_number(value, name: str) -> float:
    """Returns `value`, a number above 0."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not float(value) > 0:
        raise ValueError(f"`{name}` must be a number above 0. Received: {name}={value!r}")
    return float(value)


def rate(value, name: str) -> float:
    """Returns `value`, a probability in [0, 1)."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= float(value) < 1:
        raise ValueError(f"`{name}` must be a number in [0, 1). Received: {name}={value!r}")
    return float(value)


def one_of(value, name: str, choices):
    """Returns `value`, one of `choices`."""
    if value not in choices:
        expected = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {expected}. Received: {name}={value!r}")
    return value


def static_shape(layer, shape, axes) -> None:
    """Raises a ValueError unless `shape` has the named `axes` and all but the first are known."""
    if len(shape) != len(axes) or None in tuple(shape)[1:]:
        raise ValueError(
            f"{layer.name}: expected an input of shape ({', '.join(axes)}), all but the batch "
            f"known when the layer is built. Received: {tuple(shape)}"
        )


def fields(instance, expected: str, right, *names: str) -> None:
    """Raises a ValueError unless `right(value)` for each of these fields of a dataclass.

    Args:
        instance: The dataclass instance.
        expected: What the values are expected to be, for the message.
        right: Function from a value to whether it is right.
        *names: Names of the fields.
    """
    for name in names:
        value = getattr(instance, name)
        if not right(value):
            raise ValueError(f"{name}: expected {expected}, got {value!r}")
