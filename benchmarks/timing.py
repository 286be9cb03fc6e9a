"""Timing of several functions against each other: round by round, so that a slow minute of the machine hits all.

What ran before matters as well: 67 MB that are read again and again come from the L3 cache at 29 GB/s, and at 14 once
another function has passed other memory through it. Therefore the order is drawn anew in every round.
"""

import gc
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .case import Run

# Worker threads of other libraries spin after their last task, OpenBLAS for 26 ms: without a pause they would take
# a core from whoever is timed next.
SETTLE_SECONDS = 0.04
# What a cold cache costs is lost in a call of this time.
LONG_SECONDS = 0.2


@dataclass(frozen=True)
class Effort:
    """How long to measure: rounds, and the least time of one sample, in seconds, which sets the calls per sample.

    With a budget, in seconds, rounds end when it is spent, after `LEAST_ROUNDS` at the earliest.
    """

    rounds: int = 11
    sample_seconds: float = 0.02
    budget: float | None = None


LEAST_ROUNDS = 3
QUICK = Effort(rounds=5, sample_seconds=0.005)
FULL = Effort()


def timed(run: Run, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


def _calls_per_sample(run: Run, sample_seconds: float) -> int:
    once = timed(run, 1)
    if once < sample_seconds:
        once = min(once, timed(run, 1), timed(run, 1))
    return max(1, round(sample_seconds / max(once, 1e-7)))


def interleave(runs: Mapping[str, Run], effort: Effort) -> dict[str, list[float]]:
    """Seconds per call of each function, one sample per round, in an order drawn for each round.

    Before every sample the function is called once untimed, which brings its data back into the cache, unless a call
    takes as long as `LONG_SECONDS`. The garbage collector is off meanwhile.
    """
    calls = {name: _calls_per_sample(run, effort.sample_seconds) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order, draw = list(runs), random.Random(0)
    gc.collect()
    gc.disable()
    until = None if effort.budget is None else time.perf_counter() + effort.budget
    try:
        for number in range(effort.rounds):
            if until is not None and number >= LEAST_ROUNDS and time.perf_counter() > until:
                break
            draw.shuffle(order)
            for name in order:
                time.sleep(SETTLE_SECONDS)
                if not samples[name] or samples[name][-1] < LONG_SECONDS:
                    runs[name]()
                samples[name].append(timed(runs[name], calls[name]))
    finally:
        gc.enable()
    return samples


def middle(samples: Sequence[float]) -> tuple[float, float, float]:
    """Median, and the ends of its interval of 95 %; of fewer than 6 samples the smallest and the largest.

    The interval is that of the sign test, between two of the samples, whatever their distribution is.
    """
    ordered, n = sorted(samples), len(samples)
    tail, cut, ways = 0.0, 0, 1
    while n >= 6:
        tail += ways / 2**n
        if 2 * tail > 0.05:
            break
        cut += 1
        ways = ways * (n - cut + 1) // cut
    at = max(0, cut - 1)
    return statistics.median(ordered), ordered[at], ordered[n - 1 - at]
