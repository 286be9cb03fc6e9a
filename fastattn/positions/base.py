"""What a mechanism of positions does, at the places where it can act.

::

    x = add(x, first)                        to inputs, before the projections: sinusoids, learned embeddings
    q, k = turn(q, first), turn(k, first)    to projected queries and keys: rotary
    bias(first, queries, keys)               to scores: ALiBi, relative buckets
    scores(q, first, keys)                   to scores, of the query: relative keys
    sums(weights, first)                     to contexts: relative values

`first` is the position of the first row of x, or of the first query; keys are at 0, 1, ... Each has its backward pass,
which adds to the gradients of parameters. A row's result depends on its position alone, so that a step has the bits of
all positions at once.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastattn import _reprs
from fastattn._arrays import Array
from fastattn._relative import RelativeBias
from fastattn.layers.parameter import Layer

__all__ = ["Positions", "Table"]


class Positions(Layer):
    """Base class, and the mechanism that does nothing.

    Attributes
    ----------
    name : str
        As in `fastattn.positions.create`.
    adds : bool
        Whether `add` adds anything.
    content : bool
        Whether there are `scores` and `sums`; then there is no `bias`.
    """

    name: ClassVar[str] = "none"
    adds: ClassVar[bool] = False
    content: ClassVar[bool] = False

    def add(self, x: Array, first: int = 0) -> Array:
        """Return inputs x (B, T, D) at positions first, first + 1, ... with what is added to them."""
        return x

    def add_vjp(self, dx: Array, first: int = 0) -> None:
        """Add to the gradients of parameters, from the gradient of what `add` returned; it is also that of x."""

    def turn(self, x: Array, first: int = 0) -> Array:
        """Return queries or keys x (B, H, T, d) at positions first, first + 1, ..., turned; x itself if nothing is."""
        return x

    def turn_vjp(self, dx: Array, first: int = 0) -> Array:
        """Return the gradient of x from that of ``turn(x, first)``."""
        return dx

    def bias(self, first: int, queries: int, keys: int) -> RelativeBias | None:
        """Return what is added to the scores of queries first, first + 1, ... and keys 0, 1, ..., or None."""
        return None

    def bias_vjp(self, d_bias: Array, first: int, queries: int, keys: int) -> None:
        """Add to the gradients of parameters, from the gradient of ``bias(...).values``."""

    def scores(self, query: Array, first: int, keys: int) -> Array:
        """Return what is added to the products of queries (B, H, Tq, d) and keys before they are scaled."""
        raise NotImplementedError

    def scores_vjp(self, d_scores: Array, first: int, query: Array | None = None) -> Array:
        """Return the gradient of queries from that of `scores`; with `query`, add to the gradients of parameters."""
        raise NotImplementedError

    def sums(self, weights: Array, first: int) -> Array | None:
        """Return what is added to contexts (B, H, Tq, d) for weights (B, H, Tq, Tk), or None."""
        raise NotImplementedError

    def sums_vjp(self, d_sums: Array, first: int, keys: int, weights: Array | None = None) -> Array | None:
        """Return the gradient of weights from that of `sums`; with `weights`, add to the gradients of parameters."""
        raise NotImplementedError


class Table:
    """Rows 0, 1, ... of a table that grows as it is read.

    Parameters
    ----------
    make : function
        ``make(first, count)`` gives rows, float64. It goes with copies to other processes, so it is no lambda.
    dtype : dtype
    """

    def __init__(self, make: Callable[[int, int], Array], dtype: Any) -> None:
        self.make, self.rows = make, make(0, 64).astype(dtype)

    def __call__(self, first: int, count: int) -> Array:
        there = len(self.rows)
        if first + count > there:
            more = self.make(there, max(first + count - there, there)).astype(self.rows.dtype)
            self.rows = np.concatenate([self.rows, more])
        rows: Array = self.rows[first : first + count]
        return rows

    def __repr__(self) -> str:
        return _reprs.words(self, rows=self.rows)
