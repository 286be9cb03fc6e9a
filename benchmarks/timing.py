"""Timing of several functions against each other: round by round, so that a slow minute of the machine hits all."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from dataclasses import dataclass

from .peers.base import Run

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
    """Seconds per call of each function, one sample per round; the order rotates from round to round.

    Before every sample the function is called once untimed, which brings its data back into the cache. The garbage
    collector is off meanwhile.
    """
    calls = {name: _calls_per_sample(run, effort.sample_seconds) for name, run in runs.items()}
    samples: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    gc.collect()
    gc.disable()
    try:
        for turn in range(effort.rounds):
            shift = turn % max(len(order), 1)
            for name in order[shift:] + order[:shift]:
                time.sleep(SETTLE_SECONDS)
                runs[name]()
                samples[name].append(timed(runs[name], calls[name]))
    finally:
        gc.enable()
    return samples
