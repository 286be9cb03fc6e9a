"""Two states of fastattn against each other: ``python -m benchmarks.versus OTHER``, a built checkout of the other.

Whether a change cost speed is a question of one per cent, and two processes that run the same code differ by more:
addresses, pages and the minute differ. So every round starts a new pair of processes, in either order, and within a
round samples of both alternate. A round gives one ratio for each case; their mean and its 95 % interval are printed.
"""

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import threads
from .cases import select
from .harness import checkout, machine
from .harness.report import duration
from .timing import SETTLE_SECONDS

SAMPLES = 7  # of each side in a round, whose medians are compared
LEAST_MEAN, LEAST_CASE = 0.99, 0.98
# Two-sided 95 % points of Student's t distribution for 1 to 30 degrees of freedom, and the normal one beyond.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Side:
    """A process that times one checkout."""

    def __init__(self, root: Path, cpus: Sequence[int], count: int, smoke: bool) -> None:
        script = str(checkout.ROOT / "benchmarks" / "harness" / "duellist.py")
        command = [sys.executable, script, str(root), ",".join(map(str, cpus)), str(count), "smoke" if smoke else ""]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)

    def ask(self, **request: Any) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"a measuring process ended with {self._process.wait()}")
        return float(json.loads(answer))

    def end(self) -> None:
        self._process.communicate()


def _duel(ours: Side, other: Side, name: str, sample_seconds: float, draw: random.Random) -> tuple[float, float]:
    """Median seconds of a call of both, from alternating samples."""
    once = min(side.ask(case=name) for side in draw.sample((ours, other), 2))
    calls = max(1, round(sample_seconds / max(once, 1e-7)))
    found: dict[Side, list[float]] = {ours: [], other: []}
    for _ in range(SAMPLES):
        for side in draw.sample((ours, other), 2):
            time.sleep(SETTLE_SECONDS / 4)  # our own threads only, which spin for less than this
            found[side].append(side.ask(calls=calls))
    return statistics.median(found[ours]), statistics.median(found[other])


def interval(ratios: Sequence[float]) -> tuple[float, float, float]:
    """Geometric mean of ratios and the ends of its 95 % interval."""
    logs = [math.log(ratio) for ratio in ratios]
    middle, n = statistics.fmean(logs), len(logs)
    if n < 2:
        return math.exp(middle), 0.0, math.inf
    reach = (_T[n - 2] if n - 2 < len(_T) else 1.96) * statistics.stdev(logs) / math.sqrt(n)
    return math.exp(middle), math.exp(middle - reach), math.exp(middle + reach)


def mean(ratios: Mapping[str, Sequence[float]]) -> float:
    """Geometric mean over all cases and rounds."""
    return math.exp(statistics.fmean(math.log(interval(found)[0]) for found in ratios.values()))


def slower(ratios: Mapping[str, Sequence[float]]) -> list[str]:
    """What falls short: the mean of all cases, and each case that is slower beyond doubt."""
    short = [] if mean(ratios) >= LEAST_MEAN else [f"the geometric mean is below {LEAST_MEAN}"]
    return short + [name for name, found in ratios.items() if interval(found)[2] < LEAST_CASE]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versus", description=__doc__.split("\n\n")[0])
    parser.add_argument("other", type=Path, help="a checkout in which the other state is built")
    parser.add_argument("cases", nargs="*", help="cases by name or prefix (default: all)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N", help="thread counts (default: 1)")
    parser.add_argument("--cpus", type=int, nargs="+", metavar="CPU", help="CPUs to measure on (default: the last)")
    parser.add_argument("--rounds", type=int, default=10, help="pairs of processes (default: 10)")
    parser.add_argument("--sample-seconds", type=float, default=0.02, help="least time of a sample (default: 0.02)")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: shows that everything works")
    parser.add_argument("--check", action="store_true", help="exit with 1 when this checkout is slower")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios of all rounds")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        names = [case.name for case in select(options.cases)]
        cpus = {count: threads.choose_cpus(count, options.cpus) for count in options.threads}
    except ValueError as error:
        parser.error(str(error))
    both = [checkout.ROOT, options.other.resolve()]
    for root in both:
        if not any((root / "fastattn" / "_kernels").glob("*.so")):
            parser.error(f"{root}: no extension module; run python setup.py build_ext --inplace there")
    print(f"{machine.describe()['processor']}, load {machine.load_average()}; ratio: time of the other / ours")
    failed, record = False, {}
    for count in options.threads:
        draw = random.Random(0)
        ratios: dict[str, list[float]] = {name: [] for name in names}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for number in range(options.rounds):
            sides = {at: Side(both[at], cpus[count], count, options.smoke) for at in draw.sample((0, 1), 2)}
            for name in names:
                print(f"  {count} thread(s), round {number + 1}: {name}", file=sys.stderr, flush=True)
                ours, other = _duel(sides[0], sides[1], name, options.sample_seconds, draw)
                seconds[name].append(ours)
                ratios[name].append(other / ours)
            for side in sides.values():
                side.end()
        for name in names:
            middle, low, high = interval(ratios[name])
            took = duration(statistics.median(seconds[name]))
            print(f"{count} thread(s)  {name:24} {took:>9}  {middle:.3f}  ({low:.3f} to {high:.3f})")
        print(f"{count} thread(s)  geometric mean of {len(names)}: {mean(ratios):.3f}")
        for text in slower(ratios):
            failed = True
            print(f"{count} thread(s)  slower: {text}")
        record[count] = ratios
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 1 if options.check and failed else 0


if __name__ == "__main__":
    sys.exit(main())
