"""Timing of several functions against each other: round by round, so that a slow minute of the machine hits all.

What ran before matters as well: 67 MB that are read again and again come from the L3 cache at 29 GB/s, and at 14 once
another function has passed other memory through it. Therefore the order is drawn anew in every round.
"""

import gc
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass

from .case import Run

# Worker threads of other libraries spin after their last task, OpenBLAS for 26 ms: without a pause they would take
# a core from whoever is timed next.
SETTLE_SECONDS = 0.04


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, and the least time of one sample, in seconds, which sets the calls per sample."""

    rounds: int = 11
    sample_seconds: float = 0.02


QUICK = Effort(rounds=5, sample_seconds=0.005)
FULL = Effort()


def timed(run: Run, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def _calls_per_sample(run: Run, sample_seconds: float) -> int:
    once = min(timed(run, 1) for _ in range(3))
    return max(1, round(sample_seconds / max(once, 1e-7)))


def interleave(runs: Mapping[str, Run], effort: Effort) -> dict[str, list[float]]:
    """Seconds per call of each function, one sample per round, in an order drawn for each round.

    Before every sample the function is called once untimed, which brings its data back into the cache. The garbage
    collector is off meanwhile.
    """
    calls = {name: _calls_per_sample(run, effort.sample_seconds) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order, draw = list(runs), random.Random(0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(effort.rounds):
            draw.shuffle(order)
            for name in order:
                time.sleep(SETTLE_SECONDS)
                runs[name]()
                samples[name].append(timed(runs[name], calls[name]))
    finally:
        gc.enable()
    return samples
