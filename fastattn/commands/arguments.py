"""What the arguments of several commands share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastattn.commands.failure import EXIT_CODES
from fastattn.errors import FastattnError

if TYPE_CHECKING:
    from fastattn.seq2seq.translate import Translator

__all__ = [
    "Commands",
    "add_cache",
    "add_command",
    "add_model",
    "at_least",
    "inference",
    "model_of",
    "number_from",
    "path",
    "share",
]

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
    parser.add_argument(
        "folder", type=path, metavar="MODEL", help="folder that `fastattn train` or `fastattn quickstart` wrote"
    )
    parser.add_argument(
        "--checkpoint",
        choices=("best", "last"),
        default="best",
        help="which checkpoint (default: best by validation, or the last one if there was no validation)",
    )
    parser.add_argument(
        "--ensemble", type=path, action="append", default=[], metavar="MODEL",
        help="another model of the same vocabularies, searched together with the first (may be given again)",
    )  # fmt: skip


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Add the type of a search's caches."""
    parser.add_argument(
        "--cache", choices=("float32", "bfloat16", "int8"), help="type of a Transformer's cached keys and values"
    )


def model_of(options: argparse.Namespace) -> "Translator":
    """Load what the arguments of `add_model` name."""
    from fastattn import seq2seq

    return seq2seq.load(options.folder, options.checkpoint, ensemble=options.ensemble)


def at_least(least: int) -> Callable[[str], int]:
    """Return a type of arguments: integers from `least` up."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, not {value}")
        return value

    return integer


def number_from(least: float, above: bool = False) -> Callable[[str], float]:
    """Return a type of arguments: finite numbers from `least` up, or only those above it."""

    def number(text: str) -> float:
        value = float(text)
        if not least <= value < float("inf") or (above and value == least):
            range_ = f"above {least:g}" if above else f"from {least:g} up"
            raise argparse.ArgumentTypeError(f"must be a finite number {range_}, not {text}")
        return value

    return number


def share(text: str) -> float:
    """Return a number above 0 that is at most 1: a type of arguments."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, not {text}")
    return value


def inference(name: str) -> Callable[[str], Any]:
    """Return a type of arguments: what the configuration's [inference] may have under a name."""

    def value(text: str) -> Any:
        from fastattn.seq2seq.config import InferenceConfig
        from fastattn.seq2seq.schema import argument

        try:
            number: float = int(text)
        except ValueError:
            number = float(text)
        try:
            return argument(InferenceConfig, name, number)
        except FastattnError as error:
            expected, _, hint = str(error).partition(": ")[2].partition(".\nHint: ")
            raise argparse.ArgumentTypeError(f"{expected}; {hint.rstrip('.')}") from None

    value.__name__ = "number"  # as argparse calls it where it is none
    return value


def path(text: str) -> Path:
    """Return a path: a type of arguments, that refuses the empty one, which would mean the present folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("must not be empty" if not text else "must not have a NUL character")
    return Path(text)
