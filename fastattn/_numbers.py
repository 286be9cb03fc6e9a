"""Arguments that are one number."""

import math
import reprlib
from typing import Any

import numpy as np

from fastattn.errors import ArgumentError, DTypeError, describe

__all__ = ["check_number", "finite_number"]

_LARGEST = {"f": float(np.finfo(np.float32).max), "d": float(np.finfo(np.float64).max)}


def check_number(name: str, value: Any, hint: str) -> float:
    """Return the argument called `name` as a float, or raise a `DTypeError` unless it is one real number."""
    if type(value) is float:
        return value
    try:
        if not isinstance(value, (str, bytes)) and np.ndim(value) == 0:
            return float(value)
    except OverflowError:  # an integer beyond all floats
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError):
        pass
    got = f"{reprlib.repr(value)} of type {type(value).__name__}"
    raise DTypeError(describe(name, "a number", got, hint))


def finite_number(name: str, value: Any, dtype: "np.dtype[Any]", hint: str, *, positive: bool = False) -> float:
    """Return the argument called `name` as a float, or raise unless it is one number that is finite in this dtype, and,
    where that is asked for, above 0 in it."""
    number = check_number(name, value, hint)
    if abs(number) <= _LARGEST[dtype.char] and (not positive or dtype.type(number) > 0):
        return number
    kind = "positive, finite" if positive else "finite"
    raise ArgumentError(describe(name, f"a {kind} number in {dtype.name}", reprlib.repr(value), hint))
