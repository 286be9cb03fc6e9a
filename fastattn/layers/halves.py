"""Methods of layers that take arrays of half types, in which numbers are stored and never computed."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import is_half, narrowed, widened
from fastattn.errors import DTypeError

__all__ = ["storing_halves"]

_FLOAT32 = np.dtype(np.float32)


def storing_halves(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method of float32 arrays take a first argument of float16 or bfloat16, and return that type then.

    All arrays of half types among its arguments are widened, all float32 arrays that it returns are rounded to the type
    of the first, also in tuples; functions that it returns are such methods themselves.
    """

    @functools.wraps(method)
    def call(self: Any, *given: Any, **options: Any) -> Any:
        dtype = getattr(given[0] if given else next(iter(options.values()), None), "dtype", None)
        if dtype is _FLOAT32 or not isinstance(dtype, np.dtype) or not is_half(dtype):
            return method(self, *given, **options)
        try:
            return _rounded(functools.partial(method, self), dtype)(*given, **options)
        except DTypeError:
            return method(self, *given, **options)  # whose error speaks of what was given

    return call


def _widened(value: Any) -> Any:
    if isinstance(value, tuple):
        return _like(value, [_widened(one) for one in value])
    return widened(value) if isinstance(value, np.ndarray) and is_half(value.dtype) else value


def _rounded(value: Any, half: np.dtype[Any]) -> Any:
    if isinstance(value, np.ndarray):
        return narrowed(value, half) if value.dtype == _FLOAT32 else value
    if isinstance(value, tuple):
        return _like(value, [_rounded(one, half) for one in value])
    if not callable(value):
        return value

    @functools.wraps(value)
    def call(*given: Any, **options: Any) -> Any:
        wide = [_widened(one) for one in given]
        return _rounded(value(*wide, **{name: _widened(one) for name, one in options.items()}), half)

    return call


def _like(value: tuple[Any, ...], items: list[Any]) -> tuple[Any, ...]:
    """Return a tuple of these, of a named one's type."""
    kind: Any = type(value)
    return kind(*items) if hasattr(value, "_fields") else tuple(items)
