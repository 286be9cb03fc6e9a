"""Gradients that overflow on their way to a result that does not: how much less of everything keeps them finite.

A gradient is linear in what comes back, and as a sum over values linear in these too: a power of two times them is the
same power times the gradient, to the last bit but for what then lies below the smallest number. What comes back is made
about 1 in size, by the power of its row, sample or all of it; values are made less in steps that are the same for all,
and each element is taken from the first in which it is finite. So an element depends on what it is computed of: not on
other samples, nor on keys that are not read.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array

__all__ = ["Found", "again", "exponents", "less"]

_LAST = 3  # halves of the range: of values, keys and a score's vector near the largest a half is left


# A result: its place among those of a run, itself, the power of what a run leaves out, whether that of values counts.
Found = tuple[int, Array, Any, bool]


def exponents(arrays: tuple[Array | None, ...], axes: int) -> Any:
    """Return the least power of two above all finite elements of these, for each index of the first `axes` axes.

    All have the same first axes, and as many axes as the first; an array of zeros has 0.
    """
    found: Any = None
    for array in arrays:
        if array is None:
            continue
        sizes = np.abs(array)
        rest = tuple(range(axes, array.ndim))
        largest = sizes.max(axis=rest, where=np.isfinite(sizes), initial=0, keepdims=True)
        found = largest if found is None else np.maximum(found, largest)
    return np.frexp(found)[1]


def less(array: Array | None, power: Any) -> Any:
    """Return 2^-power times an array, in new memory, or None for None."""
    return None if array is None else np.ldexp(array, -power)


def again(found: list[Found], dtype: np.dtype[Any], run: Callable[[int], tuple[Any, ...]]) -> None:
    """Find elements that are not finite once more, of `run` with a power to be left out of values of this dtype."""
    half = int(np.finfo(dtype).maxexp) // 2
    bad = [~np.isfinite(array) for _, array, _, _ in found]
    if not any(map(np.any, bad)):
        return
    last = run(_LAST * half)
    for where, (place, *_) in zip(bad, found, strict=True):
        where &= np.isfinite(last[place])  # what is not is computed of what is not
    for count in range(_LAST + 1):
        if not any(map(np.any, bad)):
            return
        results = run(count * half) if count < _LAST else last
        for where, (place, array, power, of_values) in zip(bad, found, strict=True):
            result = results[place]
            good = where & np.isfinite(result)
            with np.errstate(over="ignore"):
                larger = np.ldexp(result, power + count * half if of_values else power)
            np.copyto(array, larger, where=good)
            where &= ~good
