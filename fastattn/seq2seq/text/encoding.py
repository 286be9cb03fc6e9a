"""Texts from UTF-8 files or the standard input, with an account of every line.

A line ends with LF or CR LF; a byte order mark at the head of a file is not text. No other character ends a line, so
line numbers are those of an editor. Lines that cannot be used are left out and reported by number; nothing else is.
A file may be compressed by gzip.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastattn.errors import ArgumentError, TextError, describe, describe_file, did_you_mean
from fastattn.seq2seq.runs.report import Account, Report
from fastattn.seq2seq.schema import argument
from fastattn.seq2seq.sections import DataConfig
from fastattn.seq2seq.text import files as textfile
from fastattn.seq2seq.text.vocabulary import EOS, Vocabulary
from fastattn.variants.protocol.checks import check_kind, check_size

__all__ = ["ParallelText", "Report", "Text", "encode", "encode_pairs", "read_lines", "read_pairs"]

Path = str | os.PathLike[str]

# Of RFC 4180, which other readers stretch: a quote stands around a cell, or twice within one.
_CELL = re.compile(r"""(?:^|(?<=,))("[^"]*(?:""[^"]*)*"|[^",]*)(?=,|$)""")
_ROW = re.compile(r"""(?:"[^"]*(?:""[^"]*)*"|[^",]*)(?:,(?:"[^"]*(?:""[^"]*)*"|[^",]*))*""")

Columns = tuple[int | str, int | str]


@dataclass(frozen=True)
class Text:
    """Lines of a text: what is on them, and their numbers from 1 on."""

    texts: list[str]
    numbers: list[int]
    report: Report


@dataclass(frozen=True)
class ParallelText:
    """Sources and targets: their texts, and the numbers of their lines from 1 on."""

    sources: list[str]
    targets: list[str]
    numbers: list[int]
    report: Report


def read_lines(path: Path = "-", *, strict: bool = False) -> Text:
    """Read sentences, one a line.

    Parameters
    ----------
    path : path
        "-" is the standard input.
    strict : bool
        Whether a line that cannot be used is an error.

    Returns
    -------
    Text
        Without lines that are empty or no UTF-8; the report has their numbers.

    Raises
    ------
    TextError
        If the file cannot be read, or for such a line with `strict`.
    """
    account = Account(textfile.name_of(path))
    texts, numbers = [], []
    for line in textfile.lines(path):
        text, reason = _text(line)
        if account.note(reason and f"line {reason}"):
            texts.append(text)
            numbers.append(account.lines)
    return Text(texts, numbers, account.report(strict))


def read_pairs(
    source: Path, target: Path | None = None, *, columns: Columns | None = None, strict: bool = False
) -> ParallelText:
    """Read pairs of sentences.

    Parameters
    ----------
    source : path
        A file of pairs, separated by one tab, or by a comma where its name ends in ``.csv`` or ``.csv.gz`` (RFC 4180,
        a row on one line); or with `target` of sources. "-" is the standard input.
    target : path, optional
        A file of targets, line by line those of the sources.
    columns : (int or str, int or str), optional
        Which columns of a file of pairs are source and target: numbers from 1 on, or names, which its first line then
        has; there may be others. Without it a line has exactly two.
    strict : bool
        Whether a line that cannot be used is an error.

    Returns
    -------
    ParallelText
        Without lines that have too few columns, are empty on one side, are no UTF-8, or have no partner in the other
        file; the report has their numbers.

    Raises
    ------
    TextError
        If a file cannot be read, has no column of a name, no pair is left, or for such a line with `strict`.
    """
    if target is None:
        account = Account(textfile.name_of(source))
        rows = _columns(source, columns, account)
    elif columns is not None:
        raise ArgumentError(describe("columns", "none for two files", columns, "leave out columns, or target."))
    else:
        account, rows = Account(f"{textfile.name_of(source)}, {textfile.name_of(target)}"), _parallel(source, target)
    sources, targets, numbers = [], [], []
    for left, right, reason in rows:
        if account.note(reason):
            sources.append(left)
            targets.append(right)
            numbers.append(account.lines)
    report = account.report(strict)
    if not numbers:
        found = "; ".join(str(report).splitlines()[1:]) or "it is empty"
        hint = "put a tab between source and target, or name two files." if target is None else "name other files."
        raise TextError(describe_file(account.name, f"no pair can be used ({found})", hint))
    return ParallelText(sources, targets, numbers, report)


def encode(vocabulary: Vocabulary, text: str) -> NDArray[np.int32]:
    """Return the numbers of the tokens of a text, with EOS at the end: what a model takes as source or target."""
    return np.append(vocabulary.encode(vocabulary.split(text)), np.int32(EOS))


def _encode_short(vocabulary: Vocabulary, text: str, most: int | None) -> NDArray[np.int32] | None:
    """Return `encode`, or None if there are more tokens than `most`: what must have more is not split to see it."""
    if most is not None and vocabulary.fewest(text) > most:
        return None
    ids = encode(vocabulary, text)
    return None if most is not None and len(ids) > most + 1 else ids


def encode_pairs(
    pairs: ParallelText, source: Vocabulary, target: Vocabulary, *, max_length: int | None = None, strict: bool = False
) -> tuple[list[NDArray[np.int32]], list[NDArray[np.int32]], ParallelText]:
    """Return sources and targets as numbers with EOS, and the pairs that they are of.

    Parameters
    ----------
    pairs : ParallelText
    source, target : Vocabulary
    max_length : int, optional
        Pairs with more tokens on a side, EOS not counted, are left out.
    strict : bool
        Whether a longer one is an error.

    Returns
    -------
    sources, targets : list of int32 arrays
    pairs : ParallelText
        Those that are left; the report goes on from that of `pairs`.

    Raises
    ------
    TextError
        If no pair is left, or with `strict` if one is left out.
    """
    check_kind("pairs", pairs, ParallelText, "pass what read_pairs returned.")
    max_length = None if max_length is None else check_size("max_length", max_length, least=0)
    account = Account(pairs.report.name, pairs.report)
    encoded: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
    kept = []
    for row, number in enumerate(pairs.numbers):
        one = _encode_short(source, pairs.sources[row], max_length)
        other = None if one is None else _encode_short(target, pairs.targets[row], max_length)
        long = "source" if one is None else "target" if other is None else ""
        if account.note(long and f"{long} has more than {max_length} tokens", number):
            assert one is not None and other is not None
            encoded.append((one, other))
            kept.append(row)
    report = account.report(strict)
    if not kept:
        raise TextError(describe_file(account.name, "no pair is short enough", "raise max_length."))
    left = ParallelText(
        [pairs.sources[row] for row in kept],
        [pairs.targets[row] for row in kept],
        [pairs.numbers[row] for row in kept],
        report,
    )
    return [ids for ids, _ in encoded], [ids for _, ids in encoded], left


def _columns(path: Path, columns: Columns | None, account: Account) -> Iterator[tuple[str, str, str]]:
    wanted = (1, 2) if columns is None else argument(DataConfig, "columns", columns)
    name, lines = textfile.name_of(path), textfile.lines(path)
    commas = name.lower().removesuffix(".gz").endswith(".csv")
    if any(isinstance(column, str) for column in wanted):
        account.note_head()
        wanted = _places(name, _cells(next(lines, b""), commas)[0], wanted)
    first, second = wanted
    for line in lines:
        cells, reason = _cells(line, commas)
        if reason:
            yield "", "", f"line {reason}"
        elif len(cells) < max(first, second) or (columns is None and len(cells) > 2):
            none = "line has no comma" if commas else "line has no tab"
            yield "", "", none if len(cells) == 1 else f"line has {len(cells)} columns"
        else:
            yield _pair(cells[first - 1], "", cells[second - 1], "")


def _cells(line: bytes, commas: bool) -> tuple[list[str], str]:
    """Return the cells of a line, and why it cannot be used, "" if it can."""
    text, reason = _text(line)
    if not commas or reason:
        return text.split("\t"), reason
    if not _ROW.fullmatch(text):
        return [], "is no whole row of CSV"
    return [cell[1:-1].replace('""', '"') if cell[:1] == '"' else cell for cell in _CELL.findall(text)], ""


def _places(name: str, head: list[str], wanted: Columns) -> tuple[int, ...]:
    """Return the numbers of columns, from 1 on, that are named in the first line of a file."""
    head = [cell.strip() for cell in head]
    for column in wanted:
        if isinstance(column, str) and head.count(column) != 1:
            how = "two columns" if column in head else "no column"
            problem = f"has {how} {column!r}; in its first line are {', '.join(head)}"
            hint = "name a column that is there once, or give its number."
            raise TextError(describe_file(name, problem, hint if column in head else did_you_mean(column, head, hint)))
    return tuple(head.index(column) + 1 if isinstance(column, str) else column for column in wanted)


def _parallel(source: Path, target: Path) -> Iterator[tuple[str, str, str]]:
    if textfile.name_of(source) == textfile.name_of(target):
        raise TextError(describe_file(textfile.name_of(source), "is named as source and as target", "name two files."))
    left, right = textfile.lines(source), textfile.lines(target)
    for one in left:
        other = next(right, None)
        if other is None:
            yield "", "", f"line has no partner in {textfile.name_of(target)}"
        else:
            yield _pair(*_text(one), *_text(other))
    for _ in right:
        yield "", "", f"line has no partner in {textfile.name_of(source)}"


def _pair(source: str, wrong_source: str, target: str, wrong_target: str) -> tuple[str, str, str]:
    wrong_source = wrong_source or ("" if source.strip() else "is empty")
    wrong_target = wrong_target or ("" if target.strip() else "is empty")
    if wrong_source:
        return "", "", f"source {wrong_source}"
    return source, target, wrong_target and f"target {wrong_target}"


def _text(line: bytes) -> tuple[str, str]:
    """Return the text of a line, and why it cannot be used, "" if it can."""
    text, wrong = textfile.decode(line)
    return text, wrong or ("" if text.strip() else "is empty")
