"""What a case is: one operation at one size, and how many times faster than the best peer it must be.

A target of 2.0 means that the fastest peer needs at least twice our time. Targets are per thread count; a thread count
without a target is measured and shown, not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

FORWARD = "forward"
BOTH = "forward+backward"
TRAIN = "training step"
PRECISIONS = ("float32", "bfloat16", "int8")

Arrays = dict[str, np.ndarray]
Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """One operation at one size.

    Attributes
    ----------
    name
        Identifier on the command line and in the JSON.
    title
        What a reader of the table sees.
    family
        Its package in `benchmarks.families`, where inputs, reference and contestants are.
    direction
        ``forward`` or ``forward+backward``. The latter returns the output and the gradients of inputs.
        ``training step`` is a loss, all gradients, clipping by their norm, and one step of Adam.
    sizes
        By names that the family's ``cases`` explains.
    smoke
        Sizes of the run that only shows that everything works.
    targets
        Best peer time / our time to reach, by number of threads.
    results
        Names of the output and of the inputs that have a gradient, in the order in which contestants return them.
    options
        What else its family asks, such as ``causal`` of dot products.
    samples
        Names of inputs and results whose first axis is that of samples, of which each is computed by itself.
    precision
        Of operands: "float32", "bfloat16", or "int8", in which inputs are float32 and products of whole numbers.
    """

    name: str
    title: str
    family: str
    direction: str
    sizes: Mapping[str, int]
    smoke: Mapping[str, int]
    targets: Mapping[int, float]
    results: tuple[str, ...]
    options: Mapping[str, Any]
    samples: tuple[str, ...] = ()
    precision: str = PRECISIONS[0]

    @property
    def backward(self) -> bool:
        return self.direction == BOTH

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what contestants return."""
        output, *inputs = self.results
        return (output, *(f"d_{name}" for name in inputs)) if self.backward else (output,)

    def small(self) -> Case:
        """The same case at its smoke size, without targets."""
        return replace(self, title=f"{self.name} (smoke)", sizes=self.smoke, targets={})


def maker(family: str, keys: str, smoke: Sequence[int], results: str = "", samples: str = "") -> Callable[..., Case]:
    """A function that makes the cases of a family, whose sizes have these names."""
    usual = smoke

    def case(
        name: str,
        title: str,
        direction: str,
        sizes: Sequence[int],
        target: float | Mapping[int, float],
        *,
        smoke: Sequence[int] = usual,
        precision: str = PRECISIONS[0],
        **options: Any,
    ) -> Case:
        full, small = (dict(zip(keys.split(), numbers, strict=True)) for numbers in (sizes, smoke))
        targets = target if isinstance(target, Mapping) else {1: target, 2: target}
        names = tuple(results.split())
        return Case(
            name, title, family, direction, full, small, targets, names, options, tuple(samples.split()), precision
        )

    return case


def named(case: Case, outputs: Any) -> Arrays:
    """Pair the outputs of `case` (one array, or a sequence) with their names."""
    several = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    return {name: widened(array) for name, array in zip(case.outputs, several, strict=True)}


def widened(array: Any) -> np.ndarray:
    """An array as it is, one of a half type in float32, which holds all of its numbers."""
    found = np.asarray(array)
    return found.astype(np.float32) if found.dtype.itemsize == 2 else found
