"""The ``fastattn`` command."""

import argparse
import io
import os
import sys
from collections.abc import Sequence

from fastattn._version import __version__
from fastattn.commands import (
    align,
    bench,
    check,
    evaluate,
    find_rate,
    heatmap,
    info,
    new_plugin,
    plugins,
    quickstart,
    score,
    train,
    translate,
)
from fastattn.commands.failure import EXIT_CODES, guarded
from fastattn.commands.models import average, convert, quantize
from fastattn.commands.parser import Parser

__all__ = ["main"]

_COMMANDS = (
    quickstart, train, find_rate, translate, evaluate, score, heatmap, align, average, convert, quantize, info, plugins,
    check, bench, new_plugin,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program name; those of the process by default.

    Returns
    -------
    int
        0, or what `fastattn.commands.failure.EXIT_CODES` says. A failure is one line on stderr.
    """
    if sys.stderr is None:  # print would take that for the standard output
        sys.stderr = open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")  # whatever the locale: texts are UTF-8
    try:
        options = _parser().parse_args(argv)
    except SystemExit as left:  # after what is wrong, or after help, whose reader may have gone
        status = int(left.code or 0)
        return guarded("help", lambda: status)
    return guarded(options.command, lambda: options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="fastattn",
        description="Attention on CPUs: train models that look back at their input, use them, see what they look at.",
        epilog=f"example:\n  fastattn quickstart\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastattn {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add(commands)
    return parser
