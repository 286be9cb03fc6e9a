"""Arguments that are one number, or one of some words."""

import math
import reprlib
from typing import Any, TypeVar

import numpy as np

from fastattn.errors import ArgumentError, DTypeError, describe, did_you_mean

__all__ = ["check_choice", "check_flag", "check_number", "check_size", "finite_number", "number_in"]

Word = TypeVar("Word", bound=str)

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


def number_in(
    name: str,
    value: Any,
    hint: str,
    *,
    least: float | None = None,
    above: float = -math.inf,
    most: float | None = None,
    below: float = math.inf,
) -> float:
    """Return the argument called `name` as a float, or raise unless it is one number of a range.

    The range begins with `least`, or above `above`; it ends with `most`, or below `below`.
    """
    number = check_number(name, value, hint)
    begins = number >= least if least is not None else number > above
    if begins and (number <= most if most is not None else number < below):
        return number
    if most is None and below == math.inf:
        expected = f"a finite number from {least} up" if least is not None else f"a finite number above {above}"
    elif most == math.inf:
        expected = f"a number above {above}"
    else:
        left, right = "(" if least is None else "[", ")" if most is None else "]"
        expected = f"a number in {left}{above if least is None else least}, {below if most is None else most}{right}"
    raise ArgumentError(describe(name, expected, reprlib.repr(value), hint))


def check_size(name: str, value: object, least: int = 1, hint: str = "") -> int:
    """Return an integer argument of at least `least`, or raise."""
    hint = hint or f"pass {name}=64, say."
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise DTypeError(describe(name, "an integer", type(value).__name__, hint))
    if not least <= value < 2**63:
        expected = f"at least {least}" if value < least else "an integer of 64 bits"
        raise ArgumentError(describe(name, expected, reprlib.repr(value), hint))
    return int(value)


def check_flag(name: str, value: object) -> bool:
    """Return whether an argument is true, or raise for what is neither, as an array of several elements."""
    try:
        return bool(value)
    except (TypeError, ValueError):
        got = f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else reprlib.repr(value)
        raise ArgumentError(describe(name, "True or False", got, f"pass {name}=True, or leave it out.")) from None


def check_choice(name: str, value: object, known: tuple[Word, ...], hint: str = "") -> Word:
    """Return one of some words, or raise."""
    if not isinstance(value, str) or value not in known:
        expected = " or ".join(map(repr, known))
        hint = hint or f"pass {name}={known[0]!r}."
        hint = did_you_mean(value, known, hint) if isinstance(value, str) else hint
        raise ArgumentError(describe(name, expected, reprlib.repr(value), hint))
    return known[known.index(value)]
