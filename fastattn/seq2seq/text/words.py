"""Texts before they are split, and words with punctuation apart from them."""

import unicodedata
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal, TypedDict, get_args

__all__ = ["DEFAULTS", "FORMS", "JOINER", "Form", "Preparation", "join", "prepare", "split"]

Form = Literal["none", "NFC", "NFKC"]
FORMS: tuple[Form, ...] = get_args(Form)

JOINER = "\uffed"  # stands on the side of a punctuation mark where there is no space


class Preparation(TypedDict, total=False):
    """What is done to texts before they are tokens; see `fastattn.seq2seq.Vocabulary`."""

    punctuation: bool
    lowercase: bool
    normalization: Form


DEFAULTS: Preparation = {"punctuation": False, "lowercase": False, "normalization": "none"}


def prepare(text: str, lowercase: bool, normalization: str) -> str:
    """Return a text in a Unicode normal form, "none" as it is, and in lower case if wanted."""
    text = text if normalization == "none" else unicodedata.normalize(normalization, text)  # type: ignore[arg-type]
    return text.lower() if lowercase else text


def split(text: str) -> list[str]:
    """Return words, and punctuation marks and symbols (Unicode's categories P and S) one by one.

    Where no space parted a mark from what is before it, a `JOINER` stands before the mark; where none parted it from
    the word after it, one stands after it.

    Examples
    --------
    >>> from fastattn.seq2seq.text.words import join, split
    >>> tokens = split('"Yes," it said (3.5).')
    >>> [token.replace("\\uffed", "~") for token in tokens]
    ['"~', 'Yes', '~,', '~"', 'it', 'said', '(~', '3', '~.~', '5', '~)', '~.']
    >>> join(tokens)
    '"Yes," it said (3.5).'
    """
    return [token for word in text.split() for token in ((word,) if word.isalnum() else _apart(word))]


def join(tokens: Iterable[str]) -> str:
    """Return the text of tokens: a space between two of them unless a `JOINER` stands there."""
    found = list(tokens)
    parts = [token.strip(JOINER) for token in found]
    spaces = ("" if one.endswith(JOINER) or other.startswith(JOINER) else " " for one, other in pairwise(found))
    return "".join(part for pair in zip(parts, [*spaces, ""]) for part in pair)


def _apart(word: str) -> Iterator[str]:
    pieces: list[tuple[str, bool]] = []  # and whether it is a mark
    for character in word:
        mark = unicodedata.category(character)[0] in "PS"
        if pieces and not mark and not pieces[-1][1]:
            pieces[-1] = pieces[-1][0] + character, False
        else:
            pieces.append((character, mark))
    for place, (piece, mark) in enumerate(pieces):
        before = JOINER if mark and place else ""
        after = JOINER if mark and place + 1 < len(pieces) and not pieces[place + 1][1] else ""
        yield before + piece + after
