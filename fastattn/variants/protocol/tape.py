"""What the backward steps of a decoder leave on a memory, for `Variant.finish`."""

from dataclasses import fields, replace
from itertools import groupby
from typing import Any, Generic, TypeVar

import numpy as np

from fastattn._arrays import Array
from fastattn._kernels import core

__all__ = ["Tape"]

S = TypeVar("S")


class Tape(list[S], Generic[S]):
    """Records of steps, in the order in which they go back, whose arrays lie side by side.

    A record is a dataclass. `append` copies each of its arrays, (B, ...), into one of all steps, (B, T, ...), and the
    record keeps a view of its part: memory that a step was given may be used again at once, and `joined` copies
    nothing.

    Attributes
    ----------
    expected : int
        Steps that may go back, so far: room is made for so many.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from fastattn.variants.protocol.tape import Tape
    >>> @dataclass(slots=True)
    ... class Step:
    ...     d_context: np.ndarray
    ...     d_weights: np.ndarray | None
    >>> tape = Tape[Step]()
    >>> for t in range(3):
    ...     tape.append(Step(np.full((2, 4), t), None))
    >>> steps = tape.joined()
    >>> steps.d_context[0, :, 0], steps.d_weights, tape[1].d_context[0]
    (array([0, 1, 2]), None, array([1, 1, 1, 1]))
    """

    def __init__(self) -> None:
        super().__init__()
        self.expected = 0
        self._room, self._arrays = 0, dict[str, Array]()

    def append(self, step: S) -> None:
        """Add a record; its arrays are copied."""
        at = len(self)
        if at == self._room:
            self._room = max(self.expected, 2 * at, 1)
            self._arrays = {name: self._wider(array) for name, array in self._arrays.items()}
        for name in (field.name for field in fields(step)):  # type: ignore[arg-type]
            value = getattr(step, name)
            if isinstance(value, np.ndarray):
                if name not in self._arrays:
                    self._arrays[name] = self._wider(np.zeros((len(value), at, *value.shape[1:]), value.dtype))
                self._arrays[name][:, at] = value
                setattr(step, name, self._arrays[name][:, at])
            elif name in self._arrays:
                self._arrays[name][:, at] = 0
        super().append(step)

    def joined(self) -> S:
        """Return a record of all steps: arrays are (B, T, ...), with zeros for steps that have None there."""
        arrays: Any = {name: found[:, : len(self)] for name, found in self._arrays.items()}
        return replace(self[0], **arrays)  # type: ignore[type-var]

    def runs(self) -> list[tuple[list[int], int]]:
        """Return which steps one call takes together, in the order of their queries, and the position of the first.

        Records have a `first`, the position of their query.
        """
        # Steps went back in reverse: those of a run fall by one as their numbers rise.
        at: Any = [getattr(step, "first") for step in self]  # noqa: B009, of a record of any class
        runs = [list(run) for _, run in groupby(range(len(self)), lambda number: number + at[number])]
        return [(run[::-1], at[run[-1]]) for run in runs]

    def _wider(self, array: Array) -> Array:
        wider = core.empty((len(array), self._room, *array.shape[2:]), array.dtype)
        wider[:, : array.shape[1]] = array
        return wider
