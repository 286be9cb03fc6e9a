"""What the arguments of several commands share."""

import argparse
from collections.abc import Callable
from typing import Any

from fastattn.commands.failure import EXIT_CODES

__all__ = ["Commands", "add_command", "add_model", "at_least", "number_from"]

Commands = Any  # argparse keeps the type of what add_subparsers returns to itself


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], *, help: str, about: str, example: str
) -> argparse.ArgumentParser:
    """Add a command with its examples and the exit codes at the end of its help."""
    lines = "".join(f"  {line}\n" for line in example.strip().splitlines())
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=about,
        epilog=f"example:\n{lines}\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, command=name)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the folder of a trained model, and which of its checkpoints to take."""
    parser.add_argument("folder", metavar="MODEL", help="folder that `fastattn train` or `fastattn quickstart` wrote")
    parser.add_argument(
        "--checkpoint",
        choices=("best", "last"),
        default="best",
        help="which checkpoint (default: best by validation, or the last one if there was no validation)",
    )


def at_least(least: int) -> Callable[[str], int]:
    """Return a type of arguments: integers from `least` up."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
        return value

    return integer


def number_from(least: float) -> Callable[[str], float]:
    """Return a type of arguments: finite numbers from `least` up."""

    def number(text: str) -> float:
        value = float(text)
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be a finite number from {least:g} up, not {text}")
        return value

    return number
