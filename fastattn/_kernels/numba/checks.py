"""What the kernels trust, checked: nothing reaches one but through the functions of this file.

Callers check before, in the words of their own arguments: this is the last line, and holds whatever they forget.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe

Array = NDArray[Any]

__all__ = [
    "FARTHEST", "MOST", "WIDEST", "Array", "Sizes", "between", "broadcasts", "flat", "floats", "inside", "maybe",
    "packed_size", "same", "table", "tensor", "within",
]  # fmt: skip

MOST = 2**63 - 1
WIDEST = 2**40  # of a row
FARTHEST = 2**61  # side of a window
_INT64 = np.dtype(np.int64)


class Sizes(NamedTuple):
    """Sizes of an array of (B, H, T, D), 1 where it has no such axis."""

    B: int
    H: int
    T: int
    D: int


def between(name: str, what: str | None, got: int, low: int, high: int) -> int:
    """Return a number, of so many of `what`, or raise unless it is from low to high."""
    if low <= got <= high:
        return int(got)
    wanted = f"{low}" if low == high else f"{low} or more" if high == MOST else f"{low} to {high}"
    hint = "sizes and numbers must be those of the other arrays."
    if what is None:
        raise ArgumentError(describe(name, f"numbers from {low} to {high}", got, hint))
    raise ShapeError(describe(name, f"{wanted} {what}", got, hint))


def same(name: str, what: str, got: int, wanted: int) -> None:
    """Raise unless there are as many of `what` as wanted."""
    between(name, what, got, wanted, wanted)


def _refusal(a: object, name: str, dtype: "np.dtype[Any]", contiguous: bool, write: bool) -> Exception:
    hint = f"pass np.require({name}, np.{dtype}, ['C', 'W'])."
    if not isinstance(a, np.ndarray):
        return DTypeError(describe(name, f"{dtype} in an array", type(a).__name__, hint))
    if a.dtype != dtype:
        return DTypeError(describe(name, f"{dtype} in native byte order", a.dtype.str, hint))
    wanted = "contiguous" if contiguous else "of rows without gaps"
    if write:
        wanted += ", that may be written"
    got = f"strides {a.strides}" + ("" if a.flags.writeable else ", read-only")
    return ArgumentError(describe(name, f"an aligned array, {wanted}", got, hint))


def _plain(a: object, dtype: "np.dtype[Any]", write: bool) -> bool:
    return (
        isinstance(a, np.ndarray)
        and a.dtype == dtype
        and a.dtype.isnative
        and a.flags.aligned
        and (a.flags.writeable or not write)
    )


def floats(a: object, name: str) -> "np.dtype[Any]":
    """Return the type of an array of float32 or float64, which decides the type of a whole call, or raise."""
    if isinstance(a, np.ndarray) and a.dtype.char in "fd":
        return a.dtype.newbyteorder("=")
    raise _refusal(a, name, np.dtype(np.float32), False, False)


def flat(a: Any, name: str, dtype: "np.dtype[Any]", count: int, write: bool = False) -> Array:
    """Return a contiguous array of `count` elements, whatever its axes, as one of one axis, or raise."""
    if not _plain(a, dtype, write) or not a.flags.c_contiguous:
        raise _refusal(a, name, dtype, True, write)
    if a.size != count:
        between(name, "elements", a.size, count, count)
    return a.reshape(-1)


def maybe(a: Any, name: str, dtype: "np.dtype[Any]", count: int, write: bool = False) -> Array:
    """Return the same, or for None an array of no elements."""
    return np.empty(0, dtype) if a is None else flat(a, name, dtype, count, write)


def tensor(
    a: Any, name: str, dtype: "np.dtype[Any]", least: int, most: int, write: bool = False, contiguous: bool = False
) -> Sizes:
    """Return the sizes of an array of `least` to `most` axes of (B, H, T, D), of which H is the first to be left out
    and B the second, with whole elements between rows and none between columns, or raise."""
    if not _plain(a, dtype, write):
        raise _refusal(a, name, dtype, contiguous, write)
    n = between(name, "axes", a.ndim, least, most)
    if not a.flags.c_contiguous:
        gaps = contiguous or (a.shape[-1] > 1 and a.strides[-1] != a.itemsize)
        if gaps or any(step % a.itemsize for step in a.strides[:-1]):
            raise _refusal(a, name, dtype, contiguous, write)
    shape = a.shape
    return Sizes(shape[0] if n > 2 else 1, shape[1] if n == 4 else 1, shape[-2], shape[-1])


def broadcasts(a: Any, name: str, dtype: "np.dtype[Any]", n: int, full: tuple[int, ...], write: bool = False) -> Array:
    """Return a view with four axes (B, H, Tq, Tk) of an array that broadcasts to `full`, without its first two sizes
    where n is below 4 and 3, or raise."""
    if not _plain(a, dtype, write) or any(step % a.itemsize for step in a.strides):
        raise _refusal(a, name, dtype, False, write)
    between(name, "axes", a.ndim, 0, n)
    wanted = full if n == 4 else (full[0], *full[2:]) if n == 3 else full[2:]
    for size, whole in zip(reversed(a.shape), reversed(wanted)):
        if size != 1:
            same(name, "entries along an axis", size, whole)
    shape, strides = (1,) * (n - a.ndim) + a.shape, (0,) * (n - a.ndim) + a.strides
    four = list(zip(shape, strides))
    four = [(1, 0)] * (4 - n) + four if n == 2 else [four[0], (1, 0), *four[1:]] if n == 3 else four
    steps = tuple(0 if size == 1 else step for size, step in four)
    return np.lib.stride_tricks.as_strided(a, full, steps, writeable=write)


def inside(name: str, a: Array, low: int, high: int) -> None:
    """Raise unless all of these integers are from low to high."""
    if a.size and not (low <= int(a.min()) and int(a.max()) <= high):
        for number in a.tolist():
            between(name, None, number, low, high)


def within(a: Any, name: str, count: int, low: int, high: int) -> Array:
    """Return `count` contiguous integers, or raise unless all are from low to high."""
    found = flat(a, name, _INT64, count)
    inside(name, found, low, high)
    return found


def table(rows: int, columns: int) -> int:
    """Return the elements of an array of these sizes, or raise."""
    return between("rows", None, rows, 0, MOST) * between("columns", None, columns, 0, WIDEST)


def packed_size(rows: int, columns: int, panel: int) -> int:
    """Return the elements of a packed matrix: whole panels of columns."""
    return rows * (-(-columns // panel) * panel)
