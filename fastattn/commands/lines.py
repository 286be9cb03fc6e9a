"""Texts that commands read: lines with their numbers, and pairs."""

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from fastattn.errors import TextError, describe_file

if TYPE_CHECKING:
    from fastattn.seq2seq.text import ParallelText

__all__ = ["add_pairs", "in_blocks", "numbered_lines", "pairs_of", "typed"]


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """Add the files of sources and targets."""
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE",
        help="pairs, source and target separated by a tab, or with --target the sources (default: stdin)",
    )  # fmt: skip
    parser.add_argument("--target", metavar="FILE", help="the targets, line by line those of the sources")
    parser.add_argument(
        "--columns", type=int, nargs=2, metavar="N", help="which columns of FILE are source and target, from 1 on"
    )


def pairs_of(options: argparse.Namespace) -> "ParallelText":
    """Read the pairs that the arguments of `add_pairs` name; every line must be of use."""
    from fastattn.seq2seq.text import read_pairs

    return read_pairs(options.file, options.target, columns=options.columns and tuple(options.columns), strict=True)


def numbered_lines(place: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file, or of stdin for "-", with their numbers from 1 on."""
    if place == "-":
        if sys.stdin is None:
            raise TextError(describe_file("standard input", "is closed", "name a file, or give it something to read."))
        yield from _decoded(sys.stdin.buffer, "standard input")
        return
    with open(place, "rb") as file:
        yield from _decoded(file, place)


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


def _decoded(file: BinaryIO, place: str) -> Iterator[tuple[int, str]]:
    from fastattn.seq2seq.text import LONGEST

    for number, line in enumerate(iter(lambda: file.readline(LONGEST + 2), b""), 1):
        if len(line.rstrip(b"\r\n")) > LONGEST:
            problem, hint = f"longer than {LONGEST} bytes", "put each sentence on a line of its own."
            raise TextError(describe_file(f"{place}, line {number}", problem, hint))
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            problem = f"bad UTF-8 at byte {error.start + 1} of the line"
            hint = "convert the text, for example with iconv."
            raise TextError(describe_file(f"{place}, line {number}", problem, hint)) from None
        yield number, text.removesuffix("\n").removesuffix("\r")
