"""What a contestant looks like: ours and every peer follow the same protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..cases import Case
from ..inputs import Arrays

Run = Callable[[], Any]


class Library(Protocol):
    """A library that can run cases.

    `prepare` returns one zero-argument function per spelling of the operation, everything that may be done once
    (copies, packing, layout, tracing) already done; an empty dict means that the library has no such operation. A
    library gets its own best layout. The functions return when the result is complete. `collect` turns what they return
    into float32 arrays by name, in our layout, and is never timed.
    """

    name: str
    version: str

    def prepare(self, case: Case, data: Arrays) -> dict[str, Run]: ...

    def collect(self, case: Case, result: Any) -> dict[str, np.ndarray]: ...


def input_names(case: Case) -> tuple[str, ...]:
    """Inputs that have a gradient, in the order in which all contestants return it."""
    if case.family == "gru":
        return ("x", "w_input", "w_hidden", "b_input", "b_hidden")
    if case.family == "lstm":
        return ("x", "w_input", "w_hidden", "b")
    return ("query", "key", "value", "v") if case.family == "additive" else ("query", "key", "value")


def output_names(case: Case) -> tuple[str, ...]:
    """Outputs of a case, in the order in which all contestants return them."""
    if case.family == "gemm":
        return ("product",)
    gradients = tuple(f"d_{name}" for name in input_names(case)) if case.backward else ()
    return ("y" if case.family in ("gru", "lstm") else "context", *gradients)


def name_outputs(case: Case, outputs: Any) -> dict[str, np.ndarray]:
    """Pair the outputs of `case` (one array, or a sequence) with their names."""
    several = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return {name: np.asarray(array) for name, array in zip(output_names(case), several, strict=True)}
