"""Embedding: a row of a table for each id."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array, gradient_array, index_array
from fastattn._kernels import core
from fastattn._numbers import check_size
from fastattn.errors import ArgumentError, describe
from fastattn.layers.parameter import Layer, Parameter

__all__ = ["Embedding"]


class Embedding(Layer):
    """``y_i = w[ids_i]``: rows of a table, learnt.

    Parameters
    ----------
    size, width : int
        Rows V of the table and their width E.
    padding : int, optional
        An id whose row is zero and is not learnt; gradients at its positions are not read, NaN or not.
    rng : numpy.random.Generator
        The rows start normally distributed.
    deviation : float
        Standard deviation of the start, by default 1.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    w : Parameter, shape (V, E)

    Notes
    -----
    Work and memory are those of a copy; the gradient of a row is the sum over its positions in ascending order.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Embedding
    >>> table = Embedding(5, 2, padding=0, rng=np.random.default_rng(0))
    >>> y, backward = table.vjp(np.array([[3, 3, 0]]))
    >>> backward(np.ones_like(y))
    >>> y.shape, table.w.gradient[[0, 3]].tolist()
    ((1, 3, 2), [[0.0, 0.0], [2.0, 2.0]])
    """

    def __init__(
        self,
        size: int,
        width: int,
        *,
        padding: int | None = None,
        rng: np.random.Generator,
        deviation: float = 1.0,
        dtype: Any = np.float32,
    ) -> None:
        size, width = check_size("size", size, 0), check_size("width", width, 0)
        hint = "it is the id of a row of the table; leave it out for none."
        if padding is not None and check_size("padding", padding, 0, hint) >= size:
            raise ArgumentError(describe("padding", f"an id from 0 to {size - 1}", padding, hint))
        value = (deviation * rng.standard_normal((size, width))).astype(dtype)
        if padding is not None:
            value[padding] = 0
        self.w = Parameter(value)
        self.padding = padding

    def forward(self, ids: Array) -> Array:
        """Return the rows of ids (...), an array (..., E); an id outside the table is an error."""
        return self._rows(index_array("ids", ids, self.w._array.shape[0]))

    def vjp(self, ids: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return ``forward(ids)``, and the function that adds the gradient of its result to that of w.

        ids are copied: their array may be used for other ids at once.
        """
        w, skip = self.w, -1 if self.padding is None else self.padding
        size, width = w._array.shape
        numbers = index_array("ids", ids, size)

        def backward(dy: Array) -> None:
            dy = gradient_array("dy", dy, (*numbers.shape, width), w._array.dtype)
            core.scatter(core.unit(dy.reshape(numbers.size, width)), numbers, skip, w._gradient)

        return self._rows(numbers), backward

    def _rows(self, numbers: Array) -> Array:
        table = self.w._array
        y = np.empty((*numbers.shape, table.shape[1]), table.dtype)
        core.gather(table, numbers, y)
        return y
