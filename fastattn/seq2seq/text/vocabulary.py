"""Tokens and their numbers."""

import hashlib
import json
import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from fastattn._numbers import check_choice, check_flag, check_size
from fastattn._strings import items, string, strings
from fastattn.errors import ArgumentError, DTypeError, describe, problem_of
from fastattn.seq2seq.strict_json import parse_json
from fastattn.seq2seq.text import bpe, words
from fastattn.seq2seq.text.tokenizer_files import FILES, OPENERS

__all__ = ["BOS", "EOS", "KINDS", "PAD", "PUNCTUATED", "SPECIAL", "UNK", "Kind", "Vocabulary"]

PAD, BOS, EOS, UNK = range(4)
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
Kind = Literal["word", "char", "bpe", "sentencepiece", "tokenizer"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PUNCTUATED = ("word", "bpe")  # kinds that can have punctuation apart

_FORMAT = 3  # what reads all; each file has the number of the first that could say what is in it
_SPLIT = "pass a list of str; a text is to be split first."


class Vocabulary:
    """Tokens numbered from 4 on; 0 to 3 are PAD, BOS, EOS and UNK.

    Parameters
    ----------
    tokens : sequence of str
        Without the special ones; all different. A token that is spelt like a special one, such as ``"</s>"``, is an
        ordinary token: no text can become a special number. With `model`, which has tokens itself, those that are
        numbered, in their order, where a trained model numbers them otherwise; what else it finds is unknown.
    kind : {"word", "char", "bpe", "sentencepiece", "tokenizer"}
        How texts are split: at white space; into characters (code points); into pieces of words by `merges`; as the
        sentencepiece model, or the ``tokenizer.json`` of the package tokenizers, in `model` says.
    merges : sequence of pairs of str
        For "bpe": what is joined, in order.
    model : bytes
        For "sentencepiece" and "tokenizer": the file, which says what the tokens are; none are given then.
    marks : sequence of str
        With `model`: tokens among `tokens` that are of no text, such as those that name a language. A text may begin
        with one, as a word of its own; `join` leaves them out.
    begin : sequence of str
        With `model`: tokens among `tokens` that every text but the empty one begins with, and that `join` leaves out.
    punctuation : bool
        For "word" and "bpe": whether punctuation marks and symbols (Unicode's categories P and S) are tokens apart from
        words. They are put back where they were: among words U+FFED stands on the side of a mark where no space was.
    lowercase : bool
        Whether texts are put in lower case before they are split.
    normalization : {"none", "NFC", "NFKC"}
        The Unicode normal form that texts are put in before that (Unicode Standard Annex 15).

    Raises
    ------
    ArgumentError
        If a token is empty or listed twice, the kind is unknown, or the model is not one of that kind.
    TextError
        When a text is split or joined, and the tokenizer of the file fails.
    MissingPackageError
        When a text is to be split into pieces, and the package for it is not installed.

    Notes
    -----
    "word" gives back a text but for its white space, with `punctuation` also for U+FFED; "char" gives it back exactly,
    "bpe" but for white space and the character U+2581; the others as their files say. What `lowercase` and
    `normalization` change stays changed: translations are in lower case, or in that form.

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
    >>> vocabulary = Vocabulary.build(["Well, well."], punctuation=True, lowercase=True)
    >>> vocabulary.join(vocabulary.split("Well, (well)."))
    'well, (well).'
    """

    def __init__(
        self,
        tokens: Iterable[str],
        kind: Kind = "word",
        merges: Iterable[Sequence[str]] = (),
        *,
        model: bytes = b"",
        marks: Iterable[str] = (),
        begin: Iterable[str] = (),
        punctuation: bool = False,
        lowercase: bool = False,
        normalization: words.Form = "none",
    ) -> None:
        self.kind = check_choice("kind", kind, KINDS)
        self.punctuation, self.lowercase = check_flag("punctuation", punctuation), check_flag("lowercase", lowercase)
        self.normalization = check_choice("normalization", normalization, words.FORMS)
        if self.punctuation and kind not in PUNCTUATED:
            hint = 'leave it out, or use kind="word" or "bpe".'
            raise ArgumentError(describe("punctuation", "False for this kind", f"True for kind {kind!r}", hint))
        own = list(strings("tokens", tokens, "pass a list of str, each of them a token."))
        self.model = self._model(model)
        self._splitter: Any = None
        self._given = kind in FILES and bool(own)
        if kind in FILES:
            self._splitter = OPENERS[kind](self.model)
            own = own or self._splitter.tokens
        self.tokens: tuple[str, ...] = (*SPECIAL, *own)
        hint = "pass (left, right) for each."
        self.merges: bpe.Merges = tuple(_merge(pair) for pair in items("merges", "pairs of tokens", merges, hint))
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
        self.marks, self.begin = (self._own(name, given) for name, given in (("marks", marks), ("begin", begin)))
        if self.merges and kind != "bpe":
            raise ArgumentError(describe("merges", "none for this kind", f"kind {kind!r}", 'use kind="bpe".'))
        for left, right in self.merges:
            if not {left, right, left + right} <= self._numbers.keys():  # the package tokenizers would abort
                hint = "list both parts and the two joined among the tokens."
                raise ArgumentError(describe("merges", "merges of tokens", f"{left!r} with {right!r}", hint))

    def _own(self, name: str, given: Iterable[str]) -> tuple[str, ...]:
        """Return tokens that are of no text, or raise unless they are among those given beside a model."""
        found = tuple(strings(name, given, "pass a list of str, each of them one of tokens."))
        for token in found:
            if not self._given or token not in self._numbers:
                hint = "list it among the tokens that are given beside the file of a tokenizer."
                raise ArgumentError(describe(name, "some of tokens", repr(token), hint))
        return found

    def _model(self, model: object) -> bytes:
        """Return the file of a tokenizer, or raise if there is one where none belongs, or none."""
        if not isinstance(model, bytes):
            hint = "read the file: pathlib.Path(...).read_bytes()."
            raise DTypeError(describe("model", "bytes", type(model).__name__, hint))
        if bool(model) != (self.kind in FILES):
            got = f"{len(model)} bytes for kind {self.kind!r}"
            hint = 'give the file for kind="sentencepiece" or "tokenizer", and none for others.'
            raise ArgumentError(describe("model", "the file of a tokenizer" if not model else "none", got, hint))
        return model

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        kind: Kind = "word",
        *,
        max_size: int | None = None,
        min_count: int = 1,
        **preparation: Unpack[words.Preparation],
    ) -> "Vocabulary":
        """Return the vocabulary of texts.

        Parameters
        ----------
        texts : iterable of str
            One sentence each.
        kind : {"word", "char", "bpe", "sentencepiece", "tokenizer"}
            "sentencepiece" is learnt as a unigram model without a normalization of its own (Kudo 2018), "tokenizer" as
            byte-pair encoding of UTF-8 bytes, which knows every text (Radford et al. 2019).
        max_size : int, optional
            Largest ``len`` of the result, its four special tokens included. For pieces of words 8000 by default.
        min_count : int
            Tokens that occur less often are left out; for "bpe", characters and pairs; for "sentencepiece" characters,
            for "tokenizer" pairs.
        **preparation
            `punctuation`, `lowercase` and `normalization`, as above.

        Returns
        -------
        Vocabulary
            The most frequent token first, equally frequent ones in the order of their code points; pieces in the order
            in which they were learnt. It depends on the texts alone, and but for "bpe" not on their order.
        """
        max_size = None if max_size is None else check_size("max_size", max_size, least=len(SPECIAL) + 1)
        min_count = check_size("min_count", min_count)
        empty = cls((), kind if kind not in FILES else "word", **preparation)
        texts = (empty._prepared(text) for text in strings("texts", texts))
        if kind in ("bpe", *FILES):
            texts = (_unicode("texts", text) for text in texts)
            most = (max_size or 8000) - len(SPECIAL)
            if kind in FILES:
                return cls((), kind, model=OPENERS[kind].learn(texts, most, min_count), **preparation)
            pieces, merges = bpe.learn(texts, most, min_count, empty.punctuation)
            return cls(pieces, kind, merges, **preparation)
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(empty.split(text))
        kept = sorted((token for token, count in counts.items() if count >= min_count), key=lambda t: (-counts[t], t))
        return cls(kept[: None if max_size is None else max_size - len(SPECIAL)], kind, **preparation)

    def fewest(self, text: str) -> int:
        """Return a number of tokens that a text has at least, at little cost; "word" and "char" give as many.

        Examples
        --------
        >>> from fastattn.seq2seq import Vocabulary
        >>> [Vocabulary((), kind).fewest("the cat") for kind in ("word", "char", "bpe")]
        [2, 7, 2]
        """
        if self.kind in FILES:  # which may drop any part of a text
            return 0
        if self.kind == "char" or self.punctuation:
            return len(self.split(text)) if self.kind != "bpe" else len(text.split())
        parts = self._prepared(text).split()
        return max(len(parts), sum(map(len, parts)) // self._longest) if self._longest else len(parts)

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text as strings, known or not."""
        text = self._prepared(string("text", text))
        if self.kind == "word":
            return words.split(text) if self.punctuation else text.split()
        if self.kind == "char":
            return list(text)
        text = _unicode("text", text)
        if self.kind in FILES:
            return self._pieces(text)
        if self._splitter is None:
            self._splitter = bpe.splitter(self.tokens[len(SPECIAL) :], self.merges, self.punctuation)
        return bpe.split(self._splitter, text)

    def _pieces(self, text: str) -> list[str]:
        first = text.split(maxsplit=1)[:1] if self.marks else []
        known = first if first and first[0] in self.marks else []
        rest = text.lstrip()[len(known[0]) :] if known else text
        found = [*known, *self._splitter.split(rest)]
        return [*self.begin, *found] if found else []

    def join(self, tokens: Iterable[str]) -> str:
        """Return the text of tokens: the inverse of `split`."""
        tokens = strings("tokens", tokens, _SPLIT)
        if self.kind in FILES:
            silent = {*self.marks, *self.begin}
            text: str = self._splitter.join([token for token in tokens if token not in silent])
            return text
        if self.kind == "bpe":
            return bpe.join(tokens)
        if self.punctuation:
            return words.join(tokens)
        return (" " if self.kind == "word" else "").join(tokens)

    def _prepared(self, text: str) -> str:
        return words.prepare(text, self.lowercase, self.normalization)

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
        """Return the vocabulary as JSON, the same text for the same vocabulary; of `model` it has the SHA-256 alone."""
        content: dict[str, Any] = {"format": 1, "kind": self.kind, "tokens": self.tokens[len(SPECIAL) :]}
        if self.kind == "bpe":
            content["merges"] = self.merges
        if self.model:
            content |= {"format": 2, "tokens": [], "model": hashlib.sha256(self.model).hexdigest()}
        if (chosen := self._preparation()) != words.DEFAULTS:
            content |= {"format": 2, **chosen}
        if self._given:
            given = {"tokens": self.tokens[len(SPECIAL) :], "marks": self.marks, "begin": self.begin}
            content |= {"format": 3, **given}
        return json.dumps(content, indent=0) + "\n"

    @classmethod
    def from_json(cls, text: str, model: bytes = b"") -> "Vocabulary":
        """Return the vocabulary that `to_json` wrote, with the `model` that it had; else an ArgumentError."""
        try:
            content = parse_json(text)
            if content["format"] > _FORMAT:
                hint = "install a newer fastattn."
                raise ArgumentError(describe("vocabulary", f"format {_FORMAT} at most", content["format"], hint))
            if model and hashlib.sha256(model).hexdigest() != content.get("model"):
                hint = "use the file that was saved with the vocabulary."
                raise ArgumentError(describe("model", "the file that the vocabulary is of", "another one", hint))
            more: Any = {name: content.get(name, default) for name, default in words.DEFAULTS.items()}
            more |= {name: content.get(name, ()) for name in ("marks", "begin")}
            return cls(content["tokens"], content["kind"], content.get("merges", ()), model=model, **more)
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
        return self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(self._facts())

    def _facts(self) -> tuple[object, ...]:
        whole = self.kind, self.tokens, self.merges, self.model, self.marks, self.begin
        return (*whole, *self._preparation().values())

    def _preparation(self) -> words.Preparation:
        return {"punctuation": self.punctuation, "lowercase": self.lowercase, "normalization": self.normalization}

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} tokens, kind={self.kind!r})"


def _unicode(name: str, text: str) -> str:
    """Return a text as it is, or raise if it has halves of characters, which the package tokenizers does not take."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        got = f"half of a character at {error.start}"
        hint = 'decode bytes with errors="replace".'
        raise ArgumentError(describe(name, "Unicode text for pieces of words", got, hint)) from None
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
