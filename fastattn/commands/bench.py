"""``fastattn bench``: the time of what a plugin provides, beside something built in."""

import argparse
import json

from fastattn._printing import emit, show
from fastattn.commands.arguments import Commands, add_command
from fastattn.testing import timing

__all__ = ["add", "run"]


def add(commands: Commands) -> None:
    """Describe the command."""
    about = (
        "Time what a plugin provides, float32, beside the built-in score or variant 'general', or softmax: "
        f"batch {timing.BATCH}, {timing.QUERIES} queries, {timing.KEYS} keys, width {timing.WIDTH}. What is wrong by "
        "the conformance kit has no time."
    )
    parser = add_command(
        commands, "bench", run, help="time a plugin", about=about, example="fastattn bench --plugin my_plugin"
    )
    parser.add_argument("--plugin", required=True, metavar="NAME", help="name of a plugin or of its distribution")
    parser.add_argument("--json", action="store_true", help="as one JSON array")


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    rows, checked = [], set()
    for case in timing.benchmarks_of(options.plugin):
        if id(case.record) not in checked:
            case.check()
            checked.add(id(case.record))
        own, peer = timing.measure(case)
        rows.append({"case": str(case), "microseconds": round(own * 1e6, 2), "built_in": round(peer * 1e6, 2)})
    if options.json:
        emit(json.dumps(rows, indent=2))
        return 0
    width = max((len(str(row["case"])) for row in rows), default=4)
    show(f"{'case':<{width}}  {'us':>10}  {'built in':>10}")
    for row in rows:
        show(f"{row['case']:<{width}}  {row['microseconds']:>10}  {row['built_in']:>10}")
    return 0
