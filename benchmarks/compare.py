"""fastattn against its peers, in one command: ``python -m benchmarks.compare``.

Every thread count is measured in a process of its own. See README.md in this folder for how to read the table.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import threads
from .cases import CASES, select
from .harness import checkout, importing, machine, report
from .peers import PEERS
from .timing import FULL, QUICK, Effort

SCHEMA = 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__.split("\n\n")[0])
    parser.add_argument("cases", nargs="*", help="cases by name or prefix (default: all), see --list")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N", help="thread counts (default: 1)")
    parser.add_argument("--cpus", type=int, nargs="+", metavar="CPU", help="CPUs to measure on (default: the last)")
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="peers to load (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to look, not to publish")
    parser.add_argument("--rounds", type=int, help="rounds, one sample of each contestant in each")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: shows that everything works")
    parser.add_argument("--no-import", action="store_true", help="do not measure the import")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, raw samples too")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed or ours is wrong")
    parser.add_argument("--list", action="store_true", help="list the cases and stop")
    return parser


def _measure(options: argparse.Namespace, count: int, effort: Effort) -> dict[str, Any]:
    """Run the worker for one thread count and read its answer."""
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
        subprocess.run(command, check=True, cwd=checkout.ROOT)
        answer: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return answer


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.list:
        for case in CASES:
            goals = ", ".join(f"{target:g}x at {count}" for count, target in case.targets.items())
            print(f"{case.name:18} {case.direction:17} {case.title:45} {goals}")
        return 0
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
        "runs": [_measure(options, count, effort) for count in options.threads],
        "import": None if options.no_import else importing.measure(),
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(report.text(result, options.markdown))
    return 1 if options.check and not report.all_met(result) else 0


if __name__ == "__main__":
    sys.exit(main())
