"""Texts that commands read: lines with their numbers, and pairs."""

import argparse
import sys
from collections.abc import Iterator
from typing import BinaryIO

from fastattn.errors import TextError, describe_file

__all__ = ["numbered_lines", "read_pairs"]


def numbered_lines(place: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a UTF-8 file, or of stdin for "-", with their numbers from 1 on."""
    if place == "-":
        yield from _decoded(sys.stdin.buffer, "standard input")
        return
    with open(place, "rb") as file:
        yield from _decoded(file, place)


def _decoded(file: BinaryIO, place: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(file, 1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            problem = f"bad UTF-8 at byte {error.start + 1} of the line"
            hint = "convert the text, for example with iconv."
            raise TextError(describe_file(f"{place}, line {number}", problem, hint)) from None
        yield number, text.removesuffix("\n").removesuffix("\r")
