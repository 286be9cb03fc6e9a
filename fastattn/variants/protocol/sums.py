"""Gradients that the steps of a decoder add to, one after the other: of keys, of what scores are made with."""

from collections.abc import Callable
from typing import Self

import numpy as np

from fastattn._arrays import Array

__all__ = ["STEPS", "StepSums"]

STEPS = 32  # of a block


class StepSums(dict[str, Array]):
    """Arrays by name that steps add to, whose error does not grow with the number of steps.

    A block of `STEPS` steps, counted from the first, is one chain of additions. Blocks are added to a pair of arrays,
    the second of which keeps the rounding errors of the first (Knuth's two-sum); steps of zeros that follow, of
    padding, change nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.variants.protocol.sums import StepSums
    >>> sums = StepSums()
    >>> for step in reversed(range(1000)):
    ...     sums.at(step, lambda: {"v": np.zeros(2, np.float32)})["v"] += np.float32(0.1)
    >>> sums.total()["v"].round(3)
    array([100., 100.], dtype=float32)
    """

    def __init__(self) -> None:
        super().__init__()
        self._block: int | None = None
        self._kept: dict[str, tuple[Array, Array]] = {}

    def at(self, step: int, zeros: Callable[[], dict[str, Array]]) -> Self:
        """Return the arrays to which the step of this number adds; those of the first are made by `zeros`."""
        if self._block != step // STEPS:
            self._keep()
            self._block = step // STEPS
        if not self:
            self.update(zeros())
        return self

    def total(self) -> dict[str, Array]:
        """Return the sums over all steps so far."""
        if not self._kept:
            return dict(self)
        self._keep()
        return {name: np.where(np.isfinite(high), high + low, high) for name, (high, low) in self._kept.items()}

    def _keep(self) -> None:
        for name, found in self.items():
            high, low = self._kept.setdefault(name, (np.zeros_like(found), np.zeros_like(found)))
            with np.errstate(all="ignore"):
                total = high + found
                grown = total - high
                low += (high - (total - grown)) + (found - grown)
            high[...], found[...] = total, 0
