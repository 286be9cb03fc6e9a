"""Texts of a job's inputs, block by block: lines of text, JSON lines and Parquet."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fastattn._optional import need
from fastattn.errors import TextError, describe_file
from fastattn.seq2seq.text import files as textfile

__all__ = ["Block", "blocks_of", "kind_of"]


@dataclass
class Block:
    """Rows of an input that are translated together, and come out together.

    Attributes
    ----------
    file : int
        The number of the input.
    first : int
        The number of the first row, from 0 on.
    texts : list of str
        "" where there is none that can be used.
    problems : dict of int to str
        By the number of the row within the block: why there is none.
    """

    file: int
    first: int
    texts: list[str]
    problems: dict[int, str] = field(default_factory=dict)

    def digest(self) -> str:
        """Return a SHA-256 of the texts: whether they are those that were translated before."""
        return hashlib.sha256(json.dumps([self.texts, sorted(self.problems.items())]).encode()).hexdigest()


def kind_of(place: str) -> str:
    """Return what a file is by its name: "parquet", "jsonl", or "text"."""
    name = os.path.basename(place).lower().removesuffix(".gz")
    return "parquet" if name.endswith(".parquet") else "jsonl" if name.endswith((".jsonl", ".ndjson")) else "text"


def blocks_of(file: int, place: str, column: str, size: int) -> Iterator[Block]:
    """Yield the blocks of an input.

    Parameters
    ----------
    file : int
    place : str
        A path. What gzip has packed is unpacked, but for Parquet, which packs by itself.
    column : str
        Of Parquet, or the key of an object on a line of JSON.
    size : int
        Rows of a block.

    Raises
    ------
    TextError
        If the file cannot be read. What is wrong with a row is a problem of that row.
    """
    block = Block(file, 0, [])
    for number, (text, problem) in enumerate(_rows(place, column)):
        if problem:
            block.problems[len(block.texts)] = problem
        block.texts.append("" if problem else text)
        if len(block.texts) == size:
            yield block
            block = Block(file, number + 1, [])
    if block.texts:
        yield block


def _rows(place: str, column: str) -> Iterator[tuple[Any, str]]:
    """Yield the text of each row, and what is wrong with it, "" if nothing is."""
    kind = kind_of(place)
    if kind == "parquet":
        yield from map(_checked, _of_parquet(place, column))
        return
    for line in textfile.lines(place):
        text, problem = textfile.decode(line)
        if kind == "text" or problem:
            yield text, problem
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            yield "", "is no JSON"
            continue
        if not isinstance(found, dict) or column not in found:
            yield "", f"has no {column!r}"
        else:
            yield _checked(found[column])


def _checked(value: Any) -> tuple[str, str]:
    if not isinstance(value, str):
        return "", f"is not a text: {type(value).__name__}"
    if "\n" in value or "\r" in value:
        return "", "has more than one line"
    return textfile.decode(value.encode("utf-8", "surrogatepass"))


def _of_parquet(place: str, column: str) -> Iterator[Any]:
    parquet = need("pyarrow.parquet", "ray", "Parquet files")
    try:
        with parquet.ParquetFile(place) as file:
            if column not in file.schema_arrow.names:
                problem = f"has no column {column!r} but {', '.join(file.schema_arrow.names)}"
                raise TextError(describe_file(place, problem, "name the column of the texts by --column."))
            for batch in file.iter_batches(columns=[column]):
                yield from batch.column(0).to_pylist()
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError; so is a TextError
        if isinstance(error, TextError):
            raise
        problem = f"cannot be read as Parquet: {' '.join(str(error).split())[:200]}"
        raise TextError(describe_file(place, problem, "write the file anew, or name another.")) from None
