"""Texts that commands read: lines with their numbers, and pairs."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastattn.commands.arguments import at_least
from fastattn.errors import TextError, describe_file

if TYPE_CHECKING:
    from fastattn.seq2seq.text.encoding import ParallelText

__all__ = ["add_pairs", "in_blocks", "numbered_lines", "pairs_of", "typed"]


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """Add the files of sources and targets."""
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE",
        help="pairs, source and target separated by a tab, or with --target the sources (default: stdin)",
    )  # fmt: skip
    parser.add_argument("--target", metavar="FILE", help="the targets, line by line those of the sources")
    parser.add_argument(
        "--columns", type=_column, nargs=2, metavar="N",
        help="which columns of FILE are source and target: numbers from 1 on, or names in its first line",
    )  # fmt: skip


def _column(text: str) -> int | str:
    return at_least(1)(text) if text.lstrip("+-").isdecimal() else text


def pairs_of(options: argparse.Namespace) -> "ParallelText":
    """Read the pairs that the arguments of `add_pairs` name; every line must be of use."""
    from fastattn.seq2seq.text.encoding import read_pairs

    return read_pairs(options.file, options.target, columns=options.columns and tuple(options.columns), strict=True)


def numbered_lines(place: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file, or of stdin for "-", with their numbers from 1 on."""
    from fastattn.seq2seq.text import files as textfile

    name = "standard input" if place == "-" else place
    for number, line in enumerate(textfile.lines(place), 1):
        text, wrong = textfile.decode(line)
        if wrong:
            hint = "put each sentence on a line of its own, of UTF-8 text."
            raise TextError(describe_file(f"{name}, line {number}", wrong + _where(line), hint))
        yield number, text


def _where(line: bytes) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return f" from byte {error.start + 1} on"
    return ""


def typed() -> bool:
    """Whether somebody types what comes from the standard input."""
    return sys.stdin is not None and sys.stdin.isatty()


def in_blocks(lines: Iterator[tuple[int, str]], size: int) -> Iterator[list[tuple[int, str]]]:
    """Yield lines in lists of `size`; if reading fails, first those before the failure, then the failure itself."""
    block: list[tuple[int, str]] = []
    try:
        for line in lines:
            block.append(line)
            if len(block) == size:
                yield block
                block = []
    except (TextError, OSError):
        if block:
            yield block
        raise
    if block:
        yield block
