"""fastattn against its peers, in one command: ``python -m benchmarks.compare``.

Every thread count is measured in a process of its own. See README.md in this folder for how to read the table.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import threads
from .cases import CASES, select
from .harness import checkout, importing, machine, report, scoreboard
from .peers import PEERS
from .timing import FULL, QUICK, Effort

SCHEMA = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("cases", nargs="*", help="cases by name or prefix (default: all), see --list")
    parser.add_argument("--threads", type=int, nargs="+", metavar="N", help="thread counts (default: 1)")
    parser.add_argument("--cpus", type=int, nargs="+", metavar="CPU", help="CPUs to measure on (default: the last)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="peers to load (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to look, not to publish")
    parser.add_argument("--rounds", type=int, help="rounds, one sample of each contestant in each")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: shows that everything works")
    parser.add_argument("--no-import", action="store_true", help="do not measure the import")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, raw samples too")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument(
        "--check", action="store_true", help="targets too; exit with 1 when one is missed or ours is wrong"
    )
    parser.add_argument(
        "--public", action="store_true", help="a scoreboard of all precisions, one thread and all, in five minutes"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="its HTML page (default: scoreboard.html)")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    return parser


def _measure(options: argparse.Namespace, count: int, effort: Effort, seconds: float) -> dict[str, Any]:
    """Run the worker for one thread count and read its answer; of a scoreboard's part in at most so many seconds."""
    cpus = threads.choose_cpus(count, options.cpus)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run.json"
        command = [
            sys.executable,
            "-m",
            "benchmarks.harness.worker",
            "--threads",
            str(count),
            "--rounds",
            str(effort.rounds),
            "--sample-seconds",
            str(effort.sample_seconds),
            "--out",
            str(out),
        ]
        command += ["--cpus", *map(str, cpus)] if cpus else []
        command += ["--cases", *options.cases] if options.cases else []
        command += ["--peers", *options.peers] if options.peers is not None else []
        command += ["--smoke"] if options.smoke else []
        command += ["--public", str(seconds)] if options.public else []
        subprocess.run(command, check=True, cwd=checkout.ROOT)
        answer: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return answer


def _runs(options: argparse.Namespace, effort: Effort) -> list[dict[str, Any]]:
    """The run of each thread count; of a scoreboard each has an equal share of the time that is left."""
    until, found = time.perf_counter() + scoreboard.SECONDS, []
    for number, count in enumerate(options.threads):
        seconds = max(1.0, (until - time.perf_counter()) / (len(options.threads) - number))
        found.append(_measure(options, count, effort, seconds))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.list:
        for case in CASES:
            goals = ", ".join(f"{target:g}x at {count}" for count, target in case.targets.items())
            print(f"{case.name:18} {case.direction:17} {case.title:45} {goals}")
        return 0
    if options.output and not options.public:
        parser.error("-o is the page of --public")
    if options.public:
        options.peers = list(scoreboard.PEERS) if options.peers is None else options.peers
        options.no_import = True
    if options.threads is None:
        everything = len(threads.usable_cpus()) or os.cpu_count() or 1
        options.threads = sorted({1, everything}) if options.public else [1]
    effort = QUICK if options.quick or options.smoke else FULL
    if options.rounds:
        effort = Effort(options.rounds, effort.sample_seconds)
    try:
        select(options.cases)
        for count in options.threads:
            threads.choose_cpus(count, options.cpus)
    except ValueError as error:
        parser.error(str(error))
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.compare", *(sys.argv[1:] if argv is None else argv)]),
        "machine": machine.describe(),
        "versions": machine.versions(),
        "effort": {"rounds": effort.rounds, "sample_seconds": effort.sample_seconds},
        "smoke": options.smoke,
        "runs": _runs(options, effort),
        "import": None if options.no_import else importing.measure(),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if options.public:
        page = options.output or Path("scoreboard.html")
        page.write_text(scoreboard.page(result), encoding="utf-8")
        print(scoreboard.text(result), f"\nthe page: {page}")
        return 1 if scoreboard.failures(result) else 0
    print(report.text(result, options.markdown, options.check))
    return 1 if options.check and not report.all_met(result) else 0


if __name__ == "__main__":
    sys.exit(main())
