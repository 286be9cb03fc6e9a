"""What backward passes have in common: checks of nested gradients before any is used, and being called once."""

from typing import Any, NamedTuple

import numpy as np

from fastattn._arrays import gradient_array
from fastattn.errors import ArgumentError, ShapeError, describe

__all__ = ["Form", "Once", "form_of", "gradients_of"]


class Form(NamedTuple):
    """Shape and dtype of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Once:
    """Whether a backward pass that uses up what it was made with was called already."""

    def __init__(self) -> None:
        self._used = False

    def use(self) -> None:
        """Raise unless this is the first call."""
        if self._used:
            raise ArgumentError(describe("backward", "one call", "a second one", "call vjp again."))
        self._used = True


def form_of(made: Any) -> Any:
    """Return the forms of an array, or of tuples of arrays, in the same tuples."""
    return tuple(map(form_of, made)) if isinstance(made, tuple) else Form(made.shape, made.dtype)


def gradients_of(name: str, given: Any, form: Any) -> Any:
    """Return the gradients called `name` of what has this form, or raise; None, for all of it or a part, is kept."""
    if isinstance(form, Form):
        return None if given is None else gradient_array(name, given, *form)
    if given is None:
        return (None,) * len(form)
    if not isinstance(given, (tuple, list)) or len(given) != len(form):
        got = f"{len(given)} of them" if isinstance(given, (tuple, list)) else type(given).__name__
        raise ShapeError(describe(name, f"a tuple of {len(form)} gradients", got, "pass None for a part without any."))
    return tuple(gradients_of(f"{name}[{i}]", part, of) for i, (part, of) in enumerate(zip(given, form)))
