"""Batches of sequences of unequal length: which rows of a (B, T, D) array exist, and in which order they are walked."""

from typing import Any

import numpy as np

from fastattn._arrays import Array, as_array, gradient_array, native
from fastattn._kernels import core
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe

__all__ = ["Sequences", "check_rows"]


class Sequences:
    """The positions of a padded batch, one row each: sample by sample, padding left out.

    Parameters
    ----------
    x : array, shape (B, T, D)
    lengths : int array, shape (B,), optional
        Positions of each sample, 0 to T; all T without it.

    Attributes
    ----------
    batch, steps : int
        B and T.
    lengths, starts, order : int64 arrays of shape (B,), or None when every sample has T positions
        Sample order[i] has lengths[i] positions, descending, in rows starts[i] and following.
    kernel : core.Sequences
        The same, as the kernels read it.
    count : int
        Rows.
    """

    def __init__(self, x: Array, lengths: object = None) -> None:
        self.batch, self.steps = x.shape[:2]
        self.count = self.batch * self.steps
        self.lengths: Array | None = None
        self.starts: Array | None = None
        self.order: Array | None = None
        self.kernel = core.Sequences(self.batch, self.steps)
        self._there: Array | None = None
        if lengths is None:
            return
        given = np.array(as_array("lengths", lengths))  # a copy, so that what was checked stays so
        if given.dtype.kind not in "iu":
            raise DTypeError(describe("lengths", "integers", given.dtype, "count the positions of each sample."))
        if given.shape != (self.batch,):
            expected = f"shape ({self.batch},), one length for each sample"
            raise ShapeError(describe("lengths", expected, f"shape {given.shape}", "pass lengths of shape (B,)."))
        if given.size and (given.min() < 0 or given.max() > self.steps):
            got = f"{int(given.min())} to {int(given.max())}"
            raise ArgumentError(describe("lengths", f"0 to {self.steps}", got, "count positions, not padding."))
        counts = given.astype(np.int64, copy=False)
        if (counts == self.steps).all():  # as without lengths
            return
        self.order = np.argsort(-counts, kind="stable").astype(np.int64, copy=False)
        self.lengths = counts[self.order]
        self.starts = (np.cumsum(counts) - counts)[self.order]
        self.kernel = core.Sequences(self.batch, self.steps, self.lengths, self.starts, self.order)
        self.count = int(counts.sum())
        self._there = np.arange(self.steps) < counts[:, None]

    def gather(self, x: Array) -> Array:
        """Return the rows (count, D) of x (B, T, D); padding is not read."""
        if self._there is not None:
            return np.ascontiguousarray(x[self._there], x.dtype.newbyteorder("="))
        return core.unit(x.reshape(self.count, x.shape[2]))

    def scatter(self, rows: Array) -> Array:
        """Return (B, T, D) with the rows in their places and zeros in the padding."""
        if self._there is None:
            return rows.reshape(self.batch, self.steps, rows.shape[1])
        x = np.zeros((self.batch, self.steps, rows.shape[1]), rows.dtype)
        x[self._there] = rows
        return x


def check_rows(name: str, array: object, shape: tuple[int, ...], dtype: Any) -> Array:
    """Return the argument as a contiguous array of this shape and dtype, or raise."""
    return native(gradient_array(name, array, shape, dtype, "match the sizes of the layer."))
