"""What is under test: a record with one set of options, and the problems that checks make of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import numpy as np

from fastattn._arrays import Array
from fastattn.plugin.records import Record

__all__ = ["Problem", "Subject"]


@dataclasses.dataclass
class Problem:
    """What is under test, and arrays to call it with, of which parts are hidden."""

    inputs: ClassVar[tuple[str, ...]]  # the arrays, batch first

    def changed(self, change: Callable[[Array], Array]) -> Self:
        """Return the problem with another array in place of each that there is."""
        arrays = {name: getattr(self, name) for name in self.inputs}
        changes: dict[str, Any] = {name: None if array is None else change(array) for name, array in arrays.items()}
        return dataclasses.replace(self, **changes)

    def at(self, rows: Any) -> Self:
        """Return the problem of some samples."""
        return self.changed(lambda array: array[rows])

    def forward(self) -> Any:
        """Return contexts and weights, and what there is besides."""
        raise NotImplementedError

    def gradients(self, d_context: Array, d_weights: Array) -> dict[str, Array]:
        """Return all gradients by name."""
        raise NotImplementedError

    def everything(self, d_context: Array, d_weights: Array) -> dict[str, Any]:
        """Return all results, by what they are."""
        return {"outputs": self.forward(), "gradients": self.gradients(d_context, d_weights)}

    def cotangents(self) -> tuple[Array, Array]:
        """Return gradients of contexts and weights, drawn."""
        rng, output = np.random.default_rng(1), self.forward()
        d_context, d_weights = (rng.normal(size=x.shape).astype(x.dtype) for x in output[:2])
        return d_context, d_weights


class Subject:
    """A record with one set of options.

    Parameters
    ----------
    record : Record
    options : mapping
        Functions among them draw a parameter, see `Record.examples`.
    reference : callable, optional
        The formula in float64, by default the record's.
    """

    kind: ClassVar[str] = ""
    several: ClassVar[dict[str, int]]  # sizes of a problem for which several threads have work
    problem: Callable[..., Any]  # of a dtype and of sizes; a new one

    def __init__(self, record: Record, options: Mapping[str, Any], reference: Callable[..., Any] | None = None) -> None:
        self.record, self.options = record, dict(options)
        self.reference = reference or record.formula()

    def __str__(self) -> str:
        shown = ", ".join(name if callable(value) else f"{name}={value!r}" for name, value in self.options.items())
        return f"{self.kind} {self.record.name!r}" + (f" with {shown}" if shown else "")
