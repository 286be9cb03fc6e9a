"""Pieces of words by byte-pair encoding: learnt and applied by the package tokenizers.

Spaces become U+2581 at the head of the word that follows, so that pieces joined again give the text. Sennrich, Haddow
and Birch 2016, "Neural machine translation of rare words with subword units", section 3.2.
"""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fastattn._optional import need
from fastattn.errors import ArgumentError, describe

__all__ = ["MARK", "Merges", "answering_ctrl_c", "join", "learn", "split", "splitter", "without_rare"]

Merges = tuple[tuple[str, str], ...]

MARK = "\u2581"  # stands for the space before a word

# What tokenizers calls a character that it does not know: no piece contains a space, so no text can look like it.
_UNKNOWN = " "

# Letters of a word that are looked at together when merges are learnt, whose work grows with the square of them; a
# longer word is cut. Text without spaces comes in words as long as its sentences.
_LONGEST = 256


# Where words are cut if punctuation is apart: a mark or a symbol, with the space before it.
_MARKS = rf"{MARK}?[\p{{P}}\p{{S}}&&[^{MARK}]]"


def _tokenizer(model: Any, *cuts: str) -> Any:
    """Return a tokenizer that splits before spaces, and apart what the patterns match."""
    package = need("tokenizers", "text", "BPE vocabularies")
    tokenizer = package.Tokenizer(model)
    splits = [package.pre_tokenizers.Metaspace(replacement=MARK, prepend_scheme="always")]
    splits += [package.pre_tokenizers.Split(package.Regex(cut), "isolated") for cut in cuts]
    tokenizer.pre_tokenizer = package.pre_tokenizers.Sequence(splits)
    return tokenizer


def without_rare(texts: Iterable[str], min_count: int) -> list[str]:
    """Return texts with one space between words, and in place of characters that are rarer than `min_count`."""
    lines = [" ".join(text.split()) for text in texts]
    counts = Counter("".join(lines)) if min_count > 1 else {}
    rare = dict.fromkeys((ord(c) for c, n in counts.items() if n < min_count), " ")
    return [line.translate(rare) for line in lines] if rare else lines


def learn(texts: Iterable[str], most: int, min_count: int, punctuation: bool = False) -> tuple[list[str], Merges]:
    """Return at most `most` pieces, single characters first, and the merges that make them.

    Characters and pairs that occur less than `min_count` times are left out; with `punctuation` no piece has a mark and
    something else. Ctrl-C is answered at once.
    """
    lines = without_rare(texts, min_count)
    long = any(len(word) > _LONGEST for line in lines for word in line.split(" "))
    package = need("tokenizers", "text", "BPE vocabularies")
    cuts = ([_MARKS] if punctuation else []) + ([f".{{1,{_LONGEST}}}"] if long else [])
    tokenizer = _tokenizer(package.models.BPE(unk_token=_UNKNOWN), *cuts)
    trainer = package.trainers.BpeTrainer(
        vocab_size=most + 1,
        min_frequency=max(min_count, 2),  # a pair that occurs once makes nothing shorter
        special_tokens=[_UNKNOWN],
        initial_alphabet=[MARK],
        show_progress=False,
    )
    answering_ctrl_c(lambda: tokenizer.train_from_iterator(lines, trainer))
    model = json.loads(tokenizer.to_str())["model"]
    pieces = sorted((piece for piece in model["vocab"] if piece != _UNKNOWN), key=model["vocab"].__getitem__)
    if len(pieces) > most:
        raise ArgumentError(
            describe("max_size", f"room for the {len(pieces)} characters of the text and 4 special tokens",
                     most + 4, "give a larger max_size, or a min_count that leaves rare characters out.")
        )  # fmt: skip
    return pieces, tuple((left, right) for left, right in model["merges"])


def answering_ctrl_c(call: Callable[[], None]) -> None:
    """Make a call that looks at no signal: in a thread, so that the one that does is free to."""
    failure: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as error:  # raised below, where somebody waits for it
            failure.append(error)

    # A daemon: after Ctrl-C nobody waits for it.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if failure:
        raise failure[0]


def splitter(pieces: Sequence[str], merges: Merges, punctuation: bool = False) -> Any:
    """Return the tokenizer that splits by these merges, with `punctuation` apart."""
    package = need("tokenizers", "text", "BPE vocabularies")
    numbers = {_UNKNOWN: 0, **{piece: number for number, piece in enumerate(pieces, 1)}}
    model = package.models.BPE(vocab=numbers, merges=list(merges), unk_token=_UNKNOWN)
    return _tokenizer(model, *([_MARKS] if punctuation else []))


def split(tokenizer: Any, text: str) -> list[str]:
    """Return the pieces of a text; a character that is in no piece is returned as it is."""
    text = " ".join(text.split())
    encoding = tokenizer.encode(text, add_special_tokens=False)
    return [
        text[begin:end] if piece == _UNKNOWN else piece
        for piece, (begin, end) in zip(encoding.tokens, encoding.offsets)
    ]


def join(pieces: Iterable[str]) -> str:
    """Return the text of pieces."""
    return "".join(pieces).replace(MARK, " ").strip(" ")
