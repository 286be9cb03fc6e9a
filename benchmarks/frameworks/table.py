"""Cases of ours beside a framework's, compared, timed in turn, and printed: what its commands have in common."""

import argparse
import os
import statistics
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ..timing import FULL, QUICK, interleave


class Case(NamedTuple):
    """Functions of the same arrays, ours and the framework's."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    inputs: list[Any]


def options(command: str, text: str | None) -> argparse.Namespace:
    """Return the options of a command, and leave it the processors that it asks for."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.frameworks.{command}", description=text)
    parser.add_argument("--threads", type=int, default=1, help="how many processors are used")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    given = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: given.threads])
    return given


def show(other: str, cases: Iterable[Case], quick: bool, leaves: Callable[[Any], list[Any]], wait: Any = None) -> None:
    """Print the medians of all cases, their ratios, and the largest differences.

    `leaves` makes a list of arrays of what a function returned, `wait` waits for it.
    """
    import numpy as np

    print(f"{'case':36}{'fastattn':>12}{other:>12}{'ratio':>8}{'apart':>10}")
    for case in cases:
        both = [leaves(function(*case.inputs)) for function in (case.ours, case.theirs)]
        apart = max(float(np.abs(x - y).max() / max(1, np.abs(y).max())) for x, y in zip(*both, strict=True))
        if apart > 1e-4:
            raise SystemExit(f"{case.name}: results are {apart:.1e} apart")

        def run(function: Any, given: Any = case.inputs) -> Any:
            return (lambda: function(*given)) if wait is None else lambda: wait(function(*given))

        samples = interleave({"ours": run(case.ours), "theirs": run(case.theirs)}, QUICK if quick else FULL)
        ours, theirs = (statistics.median(samples[name]) for name in ("ours", "theirs"))
        print(f"{case.name:36}{ours * 1e6:9.0f} us{theirs * 1e6:9.0f} us{theirs / ours:7.2f}x{apart:10.1e}", flush=True)
