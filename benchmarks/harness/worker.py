"""The measuring process: pins itself, then imports, checks and times. Started by compare.py, once per thread count."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import threads
from . import checkout


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.harness.worker", description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--cpus", type=int, nargs="*", default=[])
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--peers", nargs="*")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--sample-seconds", type=float, required=True)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    options = _arguments(argv)
    threads.pin(options.cpus)
    os.environ.update(threads.environment(options.threads))
    checkout.choose()

    from .. import ours, peers
    from ..cases import select
    from ..timing import Effort
    from . import machine
    from .contest import hold

    names = peers.PEERS if options.peers is None else tuple(options.peers)
    libraries, missing = peers.load(names, options.threads)
    libraries.insert(0, ours.load(options.threads))
    load = machine.load_average()
    effort = Effort(options.rounds, options.sample_seconds)
    results = []
    for case in select(options.cases):
        print(f"  {options.threads} thread(s): {case.name}", file=sys.stderr, flush=True)
        results.append(hold(case.small() if options.smoke else case, libraries, effort))
    report = {
        "threads": options.threads,
        "cpus": options.cpus,
        "environment": threads.environment(options.threads),
        "versions": {library.name: library.version for library in libraries},
        "missing": missing,
        "load_average": [load, machine.load_average()],
        "fastattn": machine.fastattn_config(),
        "results": results,
    }
    options.out.write_text(json.dumps(report), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
