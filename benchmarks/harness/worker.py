"""The measuring process: pins itself, then imports, checks and times. Started by compare.py, once per thread count."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import threads
from . import checkout

# Of the time that a scoreboard has for a case, what rounds may take; the rest is for checks and the least of rounds.
FOR_ROUNDS = 0.5


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harness.worker", description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--cpus", type=int, nargs="*", default=[])
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--peers", nargs="*")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--sample-seconds", type=float, required=True)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--public", type=float, metavar="SECONDS", help="a scoreboard's part, in at most so long")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(argv)


def _effort(options: argparse.Namespace, budget: float | None = None) -> Any:
    from ..timing import Effort

    return Effort(options.rounds, options.sample_seconds, budget)


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments(argv)
    start = time.perf_counter()
    threads.pin(options.cpus)
    os.environ.update(threads.environment(options.threads))
    checkout.choose()

    from .. import ours, peers
    from ..cases import CASES, select
    from . import machine
    from .contest import hold
    from .scoreboard import PUBLIC

    names = peers.PEERS if options.peers is None else tuple(options.peers)
    libraries, missing = peers.load(names, options.threads)
    libraries.insert(0, ours.load(options.threads))
    load = machine.load_average()
    results, cut = [], []
    cases = select(options.cases or (list(PUBLIC) if options.public else None))
    if options.public:
        order = list(PUBLIC)
        cases.sort(key=lambda case: order.index(case.name) if case.name in order else len(order))
    for number, case in enumerate(cases):
        print(f"  {options.threads} thread(s): {case.name}", file=sys.stderr, flush=True)
        sized, budget, precisions = case.small() if options.smoke else case, None, ()
        if options.public:
            left = start + options.public - time.perf_counter()
            if left <= 0:
                cut.append(case.name)
                continue
            budget, precisions = FOR_ROUNDS * left / (len(cases) - number), PUBLIC.get(case.name, (case.precision,))
        results.append(hold(sized, libraries, _effort(options, budget), precisions))
    report = {
        "threads": options.threads,
        "cpus": options.cpus,
        "environment": threads.environment(options.threads),
        "versions": {library.name: library.version for library in libraries},
        "missing": missing,
        "load_average": [load, machine.load_average()],
        "fastattn": machine.fastattn_config(),
        "results": sorted(results, key=lambda result: [case.name for case in CASES].index(result["case"])),
        "cut": cut,
    }
    options.out.write_text(json.dumps(report), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
