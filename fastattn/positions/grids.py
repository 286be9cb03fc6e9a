"""Positions in two dimensions, added to feature grids before they become a memory."""

from functools import partial
from typing import Any

import numpy as np

from fastattn._arrays import Array, cast, float_array, float_axes
from fastattn._numbers import check_size
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe
from fastattn.layers import Embedding
from fastattn.layers.parameter import Layer
from fastattn.positions.base import Table
from fastattn.positions.tables import sinusoids

__all__ = ["Learned2D", "Sinusoidal2D"]


class _TwoHalves(Layer):
    """Base class: ``x_ij + [row_i; column_j]``, half of the width each."""

    def __init__(self, width: int, dtype: Any) -> None:
        hint = "rows and columns get a half each."
        if check_size("width", width, 2, hint) % 2:
            raise ArgumentError(describe("width", "an even number", width, hint))
        self.width, self.dtype = width, np.dtype(dtype)

    def _halves(self, rows: int, columns: int) -> tuple[Array, Array]:
        """Return vectors (R, D / 2) of rows and (C, D / 2) of columns."""
        raise NotImplementedError

    def add(self, x: Array) -> Array:
        """Return feature grids x (B, R, C, D) with what is added to each cell; NaN in padding stays there."""
        x = float_array("x", x)
        if x.ndim != 4 or x.shape[-1] != self.width:
            hint = "pass features before Grid.flatten, channels last."
            raise ShapeError(describe("x", f"shape (B, R, C, {self.width})", f"shape {x.shape}", hint))
        if x.dtype != self.dtype:
            raise DTypeError(describe("x", str(self.dtype), x.dtype, cast("x", x, self.dtype)))
        half = self.width // 2
        rows, columns = self._halves(*x.shape[1:3])
        y = np.empty(x.shape, self.dtype)
        np.add(x[..., :half], rows[:, None], out=y[..., :half])
        np.add(x[..., half:], columns, out=y[..., half:])
        return y

    def add_vjp(self, dx: Array) -> None:
        """Add to the gradients of parameters, from the gradient of what `add` returned; it is also that of x.

        It must be zero in the padding, as what `fastattn.grid.Grid.unflatten` returns is.
        """


class Sinusoidal2D(_TwoHalves):
    """``x_ij + [sinusoids(i); sinusoids(j)]``, each of half the width (Wang, Liu 2021; Carion et al. 2020).

    ::

        p(i, j)_{2 k}           = sin(i / 10000^(4 k / D)),    p(i, j)_{2 k + 1}           = cos of the same
        p(i, j)_{D / 2 + 2 k}   = sin(j / 10000^(4 k / D)),    p(i, j)_{D / 2 + 2 k + 1}   = cos of the same

    Parameters
    ----------
    width : int
        D, even.
    dtype : dtype

    Notes
    -----
    The row's half comes first, as in DETR; Wang and Liu have the column's first. DETR counts from 1, and by default
    scales by the size of the picture, which this does not.

    References
    ----------
    Wang, Liu, "Translating math formula images to LaTeX sequences using deep neural networks with sequence-level
    training", IJDAR 2021, arXiv:1911.07015.
    Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020, arXiv:2005.12872.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.positions import Sinusoidal2D
    >>> Sinusoidal2D(4).add(np.zeros((1, 2, 3, 4), np.float32))[0, 1, 2].round(3)
    array([ 0.841,  0.54 ,  0.909, -0.416], dtype=float32)
    """

    def __init__(self, width: int, *, dtype: Any = np.float32) -> None:
        super().__init__(width, dtype)
        self._table = Table(partial(sinusoids, width=width // 2), dtype)

    def _halves(self, rows: int, columns: int) -> tuple[Array, Array]:
        return self._table(0, rows), self._table(0, columns)


class Learned2D(_TwoHalves):
    """``x_ij + [r_i; c_j]``, vectors learnt for each row and each column (Carion et al. 2020, DETR's "learned").

    Parameters
    ----------
    width : int
        D, even.
    rows, columns : int
        Numbers of vectors; there is nothing beyond.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    rows, columns : Embedding
        Their w, (rows, D / 2) and (columns, D / 2), start with deviation ``width**-0.5``.

    Notes
    -----
    The row's half comes first; DETR has the column's first here.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.positions import Learned2D
    >>> learned = Learned2D(4, rows=10, columns=20, rng=np.random.default_rng(0))
    >>> learned.add(np.zeros((2, 3, 5, 4), np.float32)).shape, sorted(learned.parameters())
    ((2, 3, 5, 4), ['columns.w', 'rows.w'])
    """

    def __init__(
        self, width: int, *, rows: int = 50, columns: int = 50, rng: np.random.Generator, dtype: Any = np.float32
    ) -> None:
        super().__init__(width, dtype)
        self.rows = Embedding(rows, width // 2, deviation=width**-0.5, rng=rng, dtype=dtype)
        self.columns = Embedding(columns, width // 2, deviation=width**-0.5, rng=rng, dtype=dtype)

    def _halves(self, rows: int, columns: int) -> tuple[Array, Array]:
        longest = len(self.rows.w.value), len(self.columns.w.value)
        if rows > longest[0] or columns > longest[1]:
            hint = "make it with larger rows= and columns=; what was not learnt is not known."
            got = f"{rows} and {columns}"
            raise ArgumentError(describe("x", f"at most {longest[0]} rows and {longest[1]} columns", got, hint))
        return self.rows.w.value[:rows], self.columns.w.value[:columns]

    def add_vjp(self, dx: Array) -> None:
        half = self.width // 2
        dx = float_axes("dx", dx, "B, R, C, D", self.width)
        batch, rows, columns = dx.shape[:3]
        of_row = np.broadcast_to(np.arange(rows)[:, None], (batch, rows, columns))
        of_column = np.broadcast_to(np.arange(columns), (batch, rows, columns))
        self.rows.vjp(of_row)[1](dx[..., :half])
        self.columns.vjp(of_column)[1](dx[..., half:])
