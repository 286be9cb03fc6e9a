"""Tokens and their numbers."""

import json
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn._numbers import check_choice, check_size
from fastattn._strings import items, string, strings
from fastattn.errors import ArgumentError, DTypeError, describe, problem_of
from fastattn.seq2seq.strict_json import parse_json
from fastattn.seq2seq.text import bpe

__all__ = ["BOS", "EOS", "KINDS", "PAD", "SPECIAL", "UNK", "Vocabulary"]

PAD, BOS, EOS, UNK = range(4)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
KINDS = ("word", "char", "bpe")

_FORMAT = 1
_SPLIT = "pass a list of str; a text is to be split first."


class Vocabulary:
    """Tokens numbered from 4 on; 0 to 3 are PAD, BOS, EOS and UNK.

    Parameters
    ----------
    tokens : sequence of str
        Without the special ones; all different. A token that is spelt like a special one, such as ``"</s>"``, is an
        ordinary token: no text can become a special number.
    kind : {"word", "char", "bpe"}
        How texts are split: at white space, into characters (code points), or into pieces of words by `merges`.
    merges : sequence of pairs of str
        For "bpe": what is joined, in order.

    Raises
    ------
    ArgumentError
        If a token is empty or listed twice, or the kind is unknown.
    MissingPackageError
        When a text is to be split into pieces, and the package tokenizers is not installed.

    Notes
    -----
    "word" gives back a text but for its white space, "char" gives it back exactly, "bpe" but for white space and the
    character U+2581.

    Examples
    --------
    >>> from fastattn.seq2seq import Vocabulary
    >>> vocabulary = Vocabulary.build(["the cat", "the dog"])
    >>> vocabulary.tokens
    ('<pad>', '<s>', '</s>', '<unk>', 'the', 'cat', 'dog')
    >>> ids = vocabulary.encode(vocabulary.split("the  old cat"))
    >>> ids
    array([4, 3, 5], dtype=int32)
    >>> vocabulary.join(vocabulary.decode(ids))
    'the <unk> cat'
    """

    def __init__(self, tokens: Iterable[str], kind: str = "word", merges: Iterable[Sequence[str]] = ()) -> None:
        self.kind = check_choice("kind", kind, KINDS)
        own = list(strings("tokens", tokens, "pass a list of str, each of them a token."))
        self.tokens: tuple[str, ...] = (*SPECIAL, *own)
        hint = "pass (left, right) for each."
        self.merges: bpe.Merges = tuple(_merge(pair) for pair in items("merges", "pairs of tokens", merges, hint))
        self._splitter: Any = None
        self._longest = max(map(len, own), default=0) if kind == "bpe" else 0
        self._numbers: dict[str, int] = {}
        for number, token in enumerate(own, len(SPECIAL)):
            if not token:
                raise ArgumentError(describe("tokens", "non-empty strings", repr(token), "leave it out."))
            if self._numbers.setdefault(token, number) != number:
                hint = "list every token once."
                raise ArgumentError(describe("tokens", "different tokens", f"{token!r} twice", hint))
            if kind == "bpe":
                _unicode("tokens", token)
        if self.merges and kind != "bpe":
            raise ArgumentError(describe("merges", "none for this kind", f"kind {kind!r}", 'use kind="bpe".'))
        for left, right in self.merges:
            if not {left, right, left + right} <= self._numbers.keys():  # the package tokenizers would abort
                hint = "list both parts and the two joined among the tokens."
                raise ArgumentError(describe("merges", "merges of tokens", f"{left!r} with {right!r}", hint))

    @classmethod
    def build(
        cls, texts: Iterable[str], kind: str = "word", *, max_size: int | None = None, min_count: int = 1
    ) -> "Vocabulary":
        """Return the vocabulary of texts.

        Parameters
        ----------
        texts : iterable of str
            One sentence each.
        kind : {"word", "char", "bpe"}
        max_size : int, optional
            Largest ``len`` of the result, its four special tokens included. For "bpe" 8000 by default.
        min_count : int
            Tokens that occur less often are left out; for "bpe", characters and pairs.

        Returns
        -------
        Vocabulary
            The most frequent token first, equally frequent ones in the order of their code points; pieces in the order
            in which they were learnt. It depends on the texts alone, and but for "bpe" not on their order.
        """
        max_size = None if max_size is None else check_size("max_size", max_size, least=len(SPECIAL) + 1)
        min_count = check_size("min_count", min_count)
        texts = strings("texts", texts)
        if kind == "bpe":
            texts = (_unicode("texts", text) for text in texts)
            pieces, merges = bpe.learn(texts, (max_size or 8000) - len(SPECIAL), min_count)
            return cls(pieces, kind, merges)
        empty = cls((), kind)
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(empty.split(text))
        kept = sorted((token for token, count in counts.items() if count >= min_count), key=lambda t: (-counts[t], t))
        return cls(kept[: None if max_size is None else max_size - len(SPECIAL)], kind)

    def fewest(self, text: str) -> int:
        """Return a number of tokens that a text has at least, at little cost; but for "bpe" it has as many.

        Examples
        --------
        >>> from fastattn.seq2seq import Vocabulary
        >>> [Vocabulary((), kind).fewest("the cat") for kind in ("word", "char", "bpe")]
        [2, 7, 2]
        """
        if self.kind == "char":
            return len(text)
        words = text.split()
        return max(len(words), sum(map(len, words)) // self._longest) if self._longest else len(words)

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text as strings, known or not."""
        text = string("text", text)
        if self.kind == "word":
            return text.split()
        if self.kind == "char":
            return list(text)
        if self._splitter is None:
            self._splitter = bpe.splitter(self.tokens[len(SPECIAL) :], self.merges)
        return bpe.split(self._splitter, _unicode("text", text))

    def join(self, tokens: Iterable[str]) -> str:
        """Return the text of tokens: the inverse of `split`."""
        tokens = strings("tokens", tokens, _SPLIT)
        if self.kind == "bpe":
            return bpe.join(tokens)
        return (" " if self.kind == "word" else "").join(tokens)

    def encode(self, tokens: Iterable[str]) -> NDArray[np.int32]:
        """Return the numbers of tokens; a token that is not in the vocabulary is UNK."""
        return np.fromiter((self._numbers.get(token, UNK) for token in strings("tokens", tokens, _SPLIT)), np.int32)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens of numbers up to the first EOS; PAD and BOS are left out, UNK is ``"<unk>"``.

        Raises
        ------
        ArgumentError
            If a number is negative or not below ``len(self)``.
        """
        found = []
        for number in _whole(ids):
            if number == EOS:
                break
            if not 0 <= number < len(self.tokens):
                hint = "decode with the vocabulary that the ids come from."
                raise ArgumentError(describe("ids", f"numbers from 0 to {len(self) - 1}", number, hint))
            if number not in (PAD, BOS):
                found.append(self.tokens[number])
        return found

    def to_json(self) -> str:
        """Return the vocabulary as JSON, the same text for the same vocabulary."""
        content: dict[str, Any] = {"format": _FORMAT, "kind": self.kind, "tokens": self.tokens[len(SPECIAL) :]}
        if self.kind == "bpe":
            content["merges"] = self.merges
        return json.dumps(content, indent=0) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Vocabulary":
        """Return the vocabulary that `to_json` wrote; anything else is an ArgumentError."""
        try:
            content = parse_json(text)
            if content["format"] > _FORMAT:
                hint = "install a newer fastattn."
                raise ArgumentError(describe("vocabulary", f"format {_FORMAT} at most", content["format"], hint))
            return cls(content["tokens"], content["kind"], content.get("merges", ()))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if isinstance(error, ArgumentError):
                raise
            hint = "use the text that to_json returned."
            got = problem_of(error) if isinstance(error, DTypeError) else repr(error)
            raise ArgumentError(describe("vocabulary", "the JSON of a vocabulary", got, hint)) from None

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._numbers

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (self.kind, self.tokens, self.merges) == (other.kind, other.tokens, other.merges)

    def __hash__(self) -> int:
        return hash((self.kind, self.tokens, self.merges))

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens, kind={self.kind!r})"


def _unicode(name: str, text: str) -> str:
    """Return a text as it is, or raise if it has halves of characters, which the package tokenizers does not take."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        got = f"half of a character at {error.start}"
        hint = 'decode bytes with errors="replace".'
        raise ArgumentError(describe(name, 'Unicode text for kind "bpe"', got, hint)) from None
    return text


def _merge(pair: object) -> tuple[str, str]:
    """Return a pair of tokens as a tuple, or raise."""
    sides = list(strings("merges", pair, "pass pairs of tokens, each of them a str."))
    if len(sides) != 2:
        hint = "pass (left, right) for each."
        raise ArgumentError(describe("merges", "pairs of tokens", f"{len(sides)} of them", hint))
    return sides[0], sides[1]


def _whole(ids: object) -> Iterator[int]:
    """Return numbers of tokens one after the other, or raise."""
    hint = "pass ids, such as encode returns."
    for number in items("ids", "integers", ids, hint):
        try:
            yield operator.index(number)  # type: ignore[arg-type]
        except TypeError:
            raise DTypeError(describe("ids", "integers", type(number).__name__, hint)) from None
