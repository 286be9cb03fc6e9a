"""Vectors of words in the text format of word2vec, fastText and GloVe."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastattn.errors import TextError, describe_file
from fastattn.seq2seq.text import files as textfile
from fastattn.seq2seq.text.vocabulary import SPECIAL, Vocabulary
from fastattn.seq2seq.text.words import JOINER

__all__ = ["read_vectors"]


def read_vectors(
    path: textfile.Place, vocabulary: Vocabulary, width: int, key: str
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Read the vectors of a vocabulary's tokens.

    Parameters
    ----------
    path : path
        A line for each token: itself and its numbers, separated by spaces; a first line with the number of tokens and
        the width is no token's. May be packed by gzip. Of a token that is there twice, the first line counts.
    vocabulary : Vocabulary
        A punctuation mark is looked for without U+FFED.
    width : int
        E, of the embedding.
    key : str
        The setting that is, for messages.

    Returns
    -------
    ids : int64 array, shape (N,)
        Numbers of the tokens that were found.
    rows : float32 array, shape (N, E)

    Raises
    ------
    TextError
        In one line, if the file cannot be read, has vectors of another width, or none of a token of the vocabulary.
    """
    name = textfile.name_of(path)
    wanted: dict[bytes, list[int]] = {}
    for number, token in enumerate(vocabulary.tokens[len(SPECIAL) :], len(SPECIAL)):
        bare = (token.strip(JOINER) or token) if vocabulary.punctuation else token
        wanted.setdefault(bare.encode("utf-8", "surrogatepass"), []).append(number)
    ids: list[int] = []
    rows: list[NDArray[np.float32]] = []
    for place, word, rest in _vectors(path):
        if place < 3 and len(cells := rest.split(b" ")) != width:
            hint = f"set {key} = {len(cells)}, or name vectors of width {width}."
            raise TextError(describe_file(name, f"its vectors have width {len(cells)}, the embedding {width}", hint))
        if numbers := wanted.pop(word, None):
            rows += [_row(f"{name}, line {place}", rest.split(b" "), width)] * len(numbers)
            ids += numbers
    if not ids:
        hint = "name vectors of the same language and kind of tokens, pieces of words or words."
        raise TextError(describe_file(name, "has no vector of a token of the vocabulary", hint))
    return np.array(ids, np.int64), np.array(rows, np.float32)


def _vectors(path: textfile.Place) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield lines with their numbers as a token and the rest, which is looked at where the token is asked for."""
    for place, line in enumerate(textfile.lines(path), 1):
        token, _, rest = line.strip(b" ").partition(b" ")
        if place == 1 and token.isdigit() and rest.isdigit():
            continue
        yield place, token, rest


def _row(where: str, cells: list[bytes], width: int) -> NDArray[np.float32]:
    try:
        row = np.array([float(cell) for cell in cells], np.float32)
    except (ValueError, OverflowError):
        row = np.zeros(0, np.float32)
    if row.shape != (width,) or not np.isfinite(row).all():
        problem = f"is not a token and {width} finite numbers with a space before each"
        raise TextError(describe_file(where, problem, "correct it, or leave the line out."))
    return row
