"""Rotary position embedding."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from fastattn._arrays import Array, float_array, float_dtype
from fastattn._kernels import core
from fastattn._numbers import check_choice, check_size, number_in
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.positions.base import Positions, Table

__all__ = ["Rotary"]

Layout = Literal["interleaved", "half"]


def _rows(first: int, count: int, of: Callable[[float], float], rates: list[float]) -> Array:
    """A function of the angles of positions first.. at all rates, float64."""
    angles = [[of(p * rate) for rate in rates] for p in range(first, first + count)]
    return np.array(angles, np.float64).reshape(count, len(rates))


class Rotary(Positions):
    """Queries and keys turned by angles that grow with their position (Su et al. 2021, equations 14, 15 and 34).

    ::

        (x_a, x_b) at p  ->  (x_a cos(p r_i) - x_b sin(p r_i), x_a sin(p r_i) + x_b cos(p r_i))
        r_i = base^(-2 i / n)                                  for i = 0..n/2 - 1

    so that a score depends on the difference of the two positions alone. Values are not turned.

    Parameters
    ----------
    head_width : int
        d.
    part : int, optional
        n, how many of the first features are turned, an even number; by default all.
    base : float
        10000 in the paper.
    layout : {"interleaved", "half"}
        Whether the pair i is features 2 i and 2 i + 1, as published, or i and i + n / 2, as in GPT-NeoX, Llama and
        Hugging Face's models. One is the other with columns of the projections in another order.
    dtype : dtype

    Notes
    -----
    O(T D) operations, on a table of T n sines and cosines that grows with the positions seen. The backward pass turns
    by the opposite angle. A position has the same bits wherever it is computed.

    References
    ----------
    Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, arXiv:2104.09864.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.positions import Rotary
    >>> x = np.tile(np.array([1, 0, 2, 0], np.float32), (1, 1, 3, 1))
    >>> Rotary(4).turn(x)[0, 0].round(3)
    array([[ 1.   ,  0.   ,  2.   ,  0.   ],
           [ 0.54 ,  0.841,  2.   ,  0.02 ],
           [-0.416,  0.909,  2.   ,  0.04 ]], dtype=float32)
    """

    name = "rotary"

    def __init__(
        self,
        head_width: int,
        *,
        part: int | None = None,
        base: float = 10000.0,
        layout: Layout = "interleaved",
        dtype: Any = np.float32,
    ) -> None:
        hint = "features are turned in pairs."
        self.width = width = check_size("head_width", head_width, 0)
        self.part = width if part is None else check_size("part", part, 0, hint)
        if self.part % 2 or self.part > width:
            raise ArgumentError(describe("part", f"an even number from 0 to {width}", self.part, hint))
        self.layout = check_choice("layout", layout, get_args(Layout), '"half" is that of Llama.')
        base = number_in("base", base, "the paper has 10000.", above=0)
        dtype = float_dtype(dtype)
        rates = [float(base) ** (-2 * i / self.part) for i in range(self.part // 2)]
        self._cosines, self._sines = (Table(partial(_rows, of=of, rates=rates), dtype) for of in (math.cos, math.sin))

    def turn(self, x: Array, first: int = 0) -> Array:
        return self._turned(x, first, False)

    def turn_vjp(self, dx: Array, first: int = 0) -> Array:
        return self._turned(dx, first, True)

    def _turned(self, x: Array, first: int, inverse: bool) -> Array:
        x = float_array("x", x)
        if x.ndim != 4 or x.shape[-1] != self.width or x.dtype != self._sines.rows.dtype:
            expected = f"{self._sines.rows.dtype} of shape (B, H, T, {self.width})"
            got = f"{x.dtype} of shape {x.shape}"
            raise ShapeError(describe("x", expected, got, "make Rotary with the width and dtype of heads."))
        batch, heads, count, width = x.shape
        y = np.empty((batch, count, heads, width), x.dtype)  # as projections leave heads
        tables = self._cosines(first, count), self._sines(first, count)
        core.rotary(core.unit(x), *tables, self.layout == "interleaved", inverse, y)
        return y.transpose(0, 2, 1, 3)
