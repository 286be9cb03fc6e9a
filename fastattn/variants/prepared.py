"""What queries meet: a memory made ready once, and what one step leaves for the next."""

import copy
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["AttentionState", "Prepared"]

Array = NDArray[Any]


@dataclass(frozen=True)
class AttentionState:
    """What a variant carries from one step to the next; this class itself is that of variants that carry nothing.

    Fields are arrays, batch first, or None, or have a `select` of their own.
    """

    def select(self, rows: Array) -> Self:
        """Return the state whose batch entry i is this one's entry ``rows[i]``."""
        index = np.asarray(rows, np.int64)
        return replace(self, **{field.name: _select(getattr(self, field.name), index) for field in fields(self)})


def _select(value: Any, rows: Array) -> Any:
    if isinstance(value, np.ndarray):
        return value[rows]
    return value.select(rows) if hasattr(value, "select") else value


class Prepared:
    """A memory, ready to be attended to.

    Attributes
    ----------
    memory : array, shape (B, S, Dm)
        As it was given.
    values : array, shape (B, S, Dv), or None
    lengths : int64 array, shape (B,)
    mask : bool array, shape (B, S), or None
    rows : int64 array, or None
        The entries of `memory` that belong to the batch, after `select`.
    tape : list
        What backward steps leave for `Variant.finish`, one after the other.
    sums : dict of str to array
        The same, gradients that they add to, once there are any.
    """

    def __init__(self, memory: Array, values: Array | None, lengths: Array, mask: Array | None) -> None:
        self.memory, self.values, self.lengths, self.mask = memory, values, lengths, mask
        self.rows: Array | None = None
        self.tape: list[dict[str, Any]] = []
        self.sums: dict[str, Array] = {}

    @property
    def batch(self) -> int:
        """Number B of samples."""
        return len(self.lengths)

    @property
    def keys(self) -> int:
        """Number S of positions."""
        return self.memory.shape[1]

    @property
    def summed(self) -> Array:
        """What contexts are sums of, (B, S, Dv): the values, or the memory."""
        return self.memory if self.values is None else self.values

    def gradient(self, d_memory: Array, d_values: Array) -> Array | tuple[Array, Array]:
        """Return what `Variant.finish` does: both where there are values, else their sum, made in d_memory."""
        if self.values is not None:
            return d_memory, d_values
        d_memory += d_values
        return d_memory

    def select(self, rows: Array) -> Self:
        """Return a memory whose batch entry i is this one's entry ``rows[i]``; nothing large is copied."""
        index = np.asarray(rows, np.int64)
        other = copy.copy(self)
        other.rows = index if self.rows is None else self.rows[index]
        other.lengths = np.ascontiguousarray(self.lengths[index])
        other.mask = None if self.mask is None else self.mask[index]
        other.tape, other.sums = [], {}
        return other

    def fresh(self) -> Self:
        """Return the same with nothing left by backward steps."""
        other = copy.copy(self)
        other.tape, other.sums = [], {}
        return other

    def allowed(self) -> Array:
        """Return which positions may be attended to, bool (B, S)."""
        allowed = np.arange(self.keys) < self.lengths[:, None]
        return allowed if self.mask is None else allowed & self.mask
