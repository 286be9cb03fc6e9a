"""How large a model is: known before a parameter is drawn, and held against what there is room for."""

import math
import os
from typing import Any

import numpy as np

from fastattn.errors import FastattnError

__all__ = ["Blank", "OversizeError", "memory", "shown"]


class OversizeError(FastattnError):
    """A model has more parameters than there is room for."""


class Blank(np.random.Generator):
    """Stands for a generator where the parameters' start does not matter: it gives zeros, and only so many.

    Parameters
    ----------
    most : int
        Elements that it gives in all; what asks for more is an OversizeError, before anything is allocated.
    draws : int, optional
        Calls that it answers in all: models of very many parameters of one element cost more than these.

    Examples
    --------
    >>> from fastattn.layers import Linear
    >>> from fastattn.seq2seq.runs.sizes import Blank
    >>> Linear(2, 3, rng=Blank(6)).w.value.sum()
    np.float32(0.0)
    >>> Linear(2, 10**9, rng=Blank(6))
    Traceback (most recent call last):
    fastattn.seq2seq.runs.sizes.OversizeError: more than 6 parameters
    """

    def __init__(self, most: int, draws: int | None = None) -> None:
        super().__init__(np.random.PCG64(0))
        self._most, self._left, self._draws = most, most, draws

    def _zeros(self, size: Any) -> Any:
        shape = () if size is None else (size,) if isinstance(size, int) else tuple(size)
        self._left -= math.prod(shape)
        if self._draws is not None:
            self._draws -= 1
        if self._left < 0 or (self._draws is not None and self._draws < 0):
            raise OversizeError(f"more than {self._most} parameters")
        return np.zeros(shape, np.float32)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """Return zeros."""
        return self._zeros(size)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """Return zeros."""
        return self._zeros(size)

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """Return zeros."""
        return self._zeros(size)

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """Return zeros."""
        return self._zeros(size)


def memory() -> int:
    """Return how many bytes of memory the machine has."""
    if not hasattr(os, "sysconf"):  # Windows
        return _memory_of_windows()
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _memory_of_windows() -> int:
    import ctypes

    # MEMORYSTATUSEX: its size and the load, then seven sizes of which the first is that of the memory.
    words = (ctypes.c_uint64 * 8)()
    words[0] = ctypes.sizeof(words)
    library: Any = ctypes
    library.windll.kernel32.GlobalMemoryStatusEx(words)
    return int(words[1])


def shown(size: float, unit: str = "") -> str:
    """Return a number of parameters, or with a unit of bytes, as one reads it.

    Examples
    --------
    >>> from fastattn.seq2seq.runs.sizes import shown
    >>> [shown(size) for size in (999, 450_000, 12_345_678, 3.2e10)]
    ['999', '450 thousand', '12.3 million', '32 billion']
    >>> shown(12_345_678, "B")
    '12.3 MB'
    """
    for factor, name, prefix in ((10**9, "billion", "G"), (10**6, "million", "M"), (10**3, "thousand", "k")):
        if size >= factor:
            return f"{size / factor:.3g} {prefix + unit if unit else name}"
    return f"{size:.0f} {unit}".rstrip()
