"""``fastattn info``: what this installation runs on."""

import argparse
import json

from fastattn._printing import emit
from fastattn.commands.arguments import Commands, add_command
from fastattn.config import show_config

__all__ = ["add", "run"]


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = add_command(
        commands,
        "info",
        run,
        help="show the version, the instruction-set levels and the threads",
        about="Show the version, the instruction-set levels and the threads of this installation.",
        example="fastattn info --json",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the facts."""
    if options.json:
        emit(json.dumps(show_config(as_dict=True), indent=2))
    else:
        show_config()
    return 0
