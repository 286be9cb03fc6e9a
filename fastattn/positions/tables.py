"""Absolute positions, added to inputs: sinusoids and learned embeddings."""

import math
from functools import partial
from typing import Any

import numpy as np

from fastattn._arrays import Array, float_axes
from fastattn.errors import ArgumentError, describe
from fastattn.layers import Embedding
from fastattn.positions.base import Positions, Table

__all__ = ["Learned", "Sinusoidal", "sinusoids"]


def sinusoids(first: int, count: int, width: int) -> Array:
    """Return encodings of positions first.. as float64 (count, width).

    ``(p, 2 i)`` is ``sin(p / 10000^(2 i / width))`` and ``(p, 2 i + 1)`` the cosine of the same (Vaswani et al. 2017,
    section 3.5). Each element is computed on its own, so that a position has the same bits in any table.

    Examples
    --------
    >>> from fastattn.positions import sinusoids
    >>> sinusoids(0, 2, 4).round(3)
    array([[0.   , 1.   , 0.   , 1.   ],
           [0.841, 0.54 , 0.01 , 1.   ]])
    """
    rates = [10000.0 ** (-(i - i % 2) / width) for i in range(width)]
    rows = [
        [math.cos(p * rate) if i % 2 else math.sin(p * rate) for i, rate in enumerate(rates)]
        for p in range(first, first + count)
    ]
    return np.array(rows, np.float64).reshape(count, width)


class Sinusoidal(Positions):
    """``x_p + sinusoids(p)`` (Vaswani et al. 2017, section 3.5).

    Parameters
    ----------
    width : int
    dtype : dtype

    Notes
    -----
    Sines and cosines take turns, as published; tensor2tensor and fairseq put all sines before all cosines.
    """

    name = "sinusoidal"
    adds = True

    def __init__(self, width: int, *, dtype: Any = np.float32) -> None:
        self.width = width
        self._rows = Table(partial(sinusoids, width=width), dtype)

    def add(self, x: Array, first: int = 0) -> Array:
        x = float_axes("x", x, "B, T, D", self.width)
        return x + self._rows(first, x.shape[1])


class Learned(Positions):
    """``x_p + w_p``, a vector learnt for each position (Gehring et al. 2017, section 3.1).

    Parameters
    ----------
    width : int
    longest : int
        Number of positions; there is nothing beyond.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    rows : Embedding
        Its w (longest, width) starts with deviation ``width**-0.5``.

    References
    ----------
    Gehring et al., "Convolutional Sequence to Sequence Learning", ICML 2017, arXiv:1705.03122.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.positions import Learned
    >>> Learned(4, longest=10, rng=np.random.default_rng(0)).add(np.zeros((2, 3, 4), np.float32)).shape
    (2, 3, 4)
    """

    name = "learned"
    adds = True

    def __init__(self, width: int, *, longest: int = 512, rng: np.random.Generator, dtype: Any = np.float32) -> None:
        self.rows = Embedding(longest, width, deviation=max(width, 1) ** -0.5, rng=rng, dtype=dtype)

    def add(self, x: Array, first: int = 0) -> Array:
        longest, width = self.rows.w.value.shape
        x = float_axes("x", x, "B, T, D", width)
        if first + x.shape[1] > longest:
            hint = "make it with a larger longest=; what was not learnt is not known."
            raise ArgumentError(describe("positions", f"at most {longest}", first + x.shape[1], hint))
        return x + self.rows.w.value[first : first + x.shape[1]]

    def add_vjp(self, dx: Array, first: int = 0) -> None:
        dx = float_axes("dx", dx, "B, T, D")
        ids = np.broadcast_to(np.arange(first, first + dx.shape[1]), dx.shape[:2])
        self.rows.vjp(ids)[1](dx)
