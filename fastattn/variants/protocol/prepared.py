"""What queries meet: a memory made ready once, which stays as it was made."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from fastattn import _reprs
from fastattn._arrays import Array, frozen, read_only, row_array
from fastattn.attention import Memory
from fastattn.errors import DTypeError, ShapeError, UnsupportedError, describe
from fastattn.precision import Precision, get_float32_precision
from fastattn.variants.protocol.sums import StepSums
from fastattn.variants.protocol.tape import Tape

__all__ = ["Prepared", "check_prepared", "check_whole"]


class Prepared:
    """A memory, ready to be attended to.

    Once `Variant.prepare` has returned it, nothing of it can be exchanged, and its arrays are read-only. Only `tape`
    and `sums` change, through backward steps; a copy has its own, empty ones.

    Attributes
    ----------
    memory : array, shape (B, S, Dm)
        As it was given.
    values : array, shape (B, S, Dv), or None
    lengths : int64 array, shape (B,)
    mask : bool array, shape (B, S), or None
    rows : int64 array, or None
        The entries of `memory` that belong to the batch, after `select`.
    shape : (int, int)
        B and S.
    tape : Tape
        What backward steps leave for `Variant.finish`, one after the other; a subclass says of what class.
    sums : StepSums
        The same, gradients that they add to, by name, once there are any.
    precision : {"highest", "batched", "high", "medium"}
        That of float32 products when it was made, which `Variant.finish` has too.
    """

    memory: Array
    values: Array | None
    lengths: Array
    mask: Array | None
    rows: Array | None
    shape: tuple[int, int]
    tape: Tape[Any]
    sums: StepSums
    precision: Precision
    _maker: bytes | None = None
    _expected: dict[type, Any]  # what the arrays of a state must be, by its class, once one was checked

    def __init__(self, memory: Array, values: Array | None, lengths: Array, mask: Array | None) -> None:
        self.memory, self.values, self.rows = memory, values, None
        self.lengths, self.mask = frozen(lengths), None if mask is None else frozen(mask)
        self.shape = (len(lengths), memory.shape[1])
        self.tape, self.sums, self._expected = Tape(), StepSums(), {}
        self.precision = get_float32_precision()

    def __setattr__(self, name: str, value: Any) -> None:
        if self._maker is not None:
            hint = "prepare() another memory, or select() rows of this one."
            raise UnsupportedError(describe(name, "no assignment to a prepared memory", type(value).__name__, hint))
        super().__setattr__(name, value)

    def close(self, maker: bytes) -> Self:
        """Make everything read-only, and note which variant it is for; `Variant.prepare` does so."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and value.flags.writeable:
                super().__setattr__(name, read_only(value))
        super().__setattr__("_maker", maker)
        return self

    @property
    def batch(self) -> int:
        """Number B of samples."""
        return self.shape[0]

    @property
    def keys(self) -> int:
        """Number S of positions."""
        return self.shape[1]

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
        """Return a memory whose batch entry i is this one's entry ``rows[i]``; nothing large is copied.

        Parameters
        ----------
        rows : int array, shape (B',)
            From 0 to B - 1, any number of times; copied.
        """
        return self._at(row_array(rows, self.batch))

    def _at(self, index: Array) -> Self:
        """As `select`, for rows that were checked; they are for the parts too, which are of the same batch."""
        other = self._again(lambda part: part._at(index))
        vars(other).update(
            rows=index if self.rows is None else frozen(self.rows[index]),
            lengths=frozen(self.lengths[index]),
            mask=None if self.mask is None else frozen(self.mask[index]),
            shape=(len(index), self.keys),
        )
        return other

    def fresh(self) -> Self:
        """Return the same with nothing left by backward steps."""
        return self._again(lambda part: part.fresh() if isinstance(part, Prepared) else part)

    __copy__ = fresh

    def _again(self, change: Callable[[Any], Any]) -> Self:
        """Return a copy that has a tape of its own, with those of its parts changed that are memories."""
        other = object.__new__(type(self))
        found = vars(other)
        found.update(vars(self), tape=Tape(), sums=StepSums(), _expected={})
        for name, value in vars(self).items():
            if isinstance(value, (Prepared, Memory)):
                found[name] = change(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Prepared):
                found[name] = tuple(change(part) for part in value)
        return other

    def take(self) -> tuple[Tape[Any], dict[str, Array]]:
        """Return `tape`, and what `sums` come to; both are empty afterwards."""
        left = self.tape, self.sums.total()
        vars(self).update(tape=Tape(), sums=StepSums())
        return left

    def count(self) -> int:
        """Return the number of a step that may go back, from 0 on."""
        self.tape.expected += 1
        return self.tape.expected - 1

    def allowed(self) -> Array:
        """Return which positions may be attended to, bool (B, S)."""
        allowed = np.arange(self.keys) < self.lengths[:, None]
        return allowed if self.mask is None else allowed & self.mask

    def __setstate__(self, state: dict[str, Any]) -> None:
        maker = state.pop("_maker", None)
        # A copy of an array may have other strides: those of `np.broadcast_to` become dense, in any order.
        vars(self).update({n: np.ascontiguousarray(x) if isinstance(x, np.ndarray) else x for n, x in state.items()})
        if maker is not None:
            self.close(maker)

    def __repr__(self) -> str:
        return _reprs.words(self, shape=self.shape, memory=self.memory)


def check_prepared(prepared: object, variant: Any) -> None:
    """Raise unless it is what `prepare` of this variant returned, or of one that it is a copy of."""
    if not isinstance(prepared, Prepared):
        hint = "pass variant.prepare(memory, lengths, mask)."
        raise DTypeError(describe("prepared", "what prepare() returned", type(prepared).__name__, hint))
    if prepared._maker != variant.identity:
        hint = "a memory has the keys of one variant: prepare() it by the variant that attends."
        raise ShapeError(describe("prepared", "a memory of this variant", "one of another variant", hint))


def check_whole(prepared: Prepared) -> None:
    """Raise for a selection of rows, which has no backward pass."""
    if prepared.rows is not None:
        hint = "train on what prepare() returned; selections are for search."
        raise UnsupportedError(describe("prepared", "a memory without select()", "a selection of its rows", hint))
