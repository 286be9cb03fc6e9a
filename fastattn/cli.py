"""The ``fastattn`` command."""

import argparse
import json
from collections.abc import Sequence

from fastattn._version import __version__
from fastattn.config import show_config

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program name; those of the process by default.
    """
    options = _parser().parse_args(argv)
    status: int = options.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastattn", description="Attention on CPUs.")
    parser.add_argument("--version", action="version", version=f"fastattn {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="show the version, the instruction-set levels and the threads")
    info.add_argument("--json", action="store_true", help="as one JSON object")
    info.set_defaults(run=_info)
    return parser


def _info(options: argparse.Namespace) -> int:
    if options.json:
        print(json.dumps(show_config(as_dict=True), indent=2))
    else:
        show_config()
    return 0
