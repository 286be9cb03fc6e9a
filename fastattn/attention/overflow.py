"""Gradients that overflow on their way to a result that does not: how much less of everything keeps them finite.

A gradient is linear in what comes back, and as a sum over values linear in these too: a power of two times them is the
same power times the gradient, to the last bit but for what then lies below the smallest number.
"""

import math
from typing import Any

import numpy as np

from fastattn._arrays import Array

__all__ = ["exponent", "less", "merge", "powers"]


def exponent(array: Array | None) -> int:
    """Return the least power of two above all finite elements, in size; at least that of 1."""
    if array is None or not array.size:
        return 1
    sizes = np.abs(array)
    return max(1, math.frexp(float(sizes.max(where=np.isfinite(sizes), initial=0)))[1])


def powers(
    d_context: Array, value: Array, beside: tuple[Array | None, ...], rows: tuple[Array, ...], vector: Array | None,
    terms: int, keep: float, scale: float,
) -> tuple[int, int]:  # fmt: skip
    """Return (a, b): with 2^-a of what comes back and 2^-b of the values no sum of an attention's gradients overflows.

    Gradients of weights are products of `d_context` and `value`, to which `beside` is added; they meet `scale`, one of
    `rows` and the score's vector. A sum has at most `terms` terms, and dropout multiplies by `keep`.
    """
    room = int(np.finfo(value.dtype).maxexp) - 3
    of_terms = math.frexp(terms)[1] + math.frexp(keep)[1]
    back = exponent(d_context)
    of_weights = max(back + exponent(value) + math.frexp(value.shape[-1])[1], *(exponent(x) for x in beside))
    products = max(exponent(x) for x in rows) + exponent(vector) + max(1, math.frexp(abs(scale))[1])
    a = max(0, back + of_terms - room)
    return a, max(0, of_weights + products + of_terms - room - a)


def less(array: Array | None, power: int) -> Any:
    """Return 2^-power times an array, in new memory, or None for None."""
    return None if array is None else np.ldexp(array, -power)


def merge(found: Array | None, again: Array | None, power: int) -> None:
    """Put 2^power times `again` into `found` where that is not finite."""
    if found is None or again is None:
        return
    with np.errstate(over="ignore"):
        np.copyto(found, np.ldexp(again, power), where=~np.isfinite(found))
