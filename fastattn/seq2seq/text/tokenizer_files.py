"""Tokenizers that other libraries keep in a file: sentencepiece models and `tokenizer.json`; read, used and learnt.

Kudo and Richardson 2018, "SentencePiece: A simple and language independent subword tokenizer and detokenizer for Neural
Text Processing"; Kudo 2018, "Subword Regularization: Improving Neural Network Translation Models with Multiple Subword
Candidates", section 3.2, for the unigram model; Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners", section 2.2, for byte-pair encoding of bytes.
"""

import io
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from fastattn import _reprs
from fastattn._optional import need
from fastattn.errors import ArgumentError, FastattnError, TextError, describe, describe_file
from fastattn.seq2seq.strict_json import parse_json
from fastattn.seq2seq.text.bpe import answering_ctrl_c, without_rare

__all__ = ["FILES", "OPENERS", "SentencePiece", "TokenizerJson"]

T = TypeVar("T")

# What the file of a kind is called in a checkpoint, after the side and a dot.
FILES = {"sentencepiece": "sentencepiece.model", "tokenizer": "tokenizer.json"}

_LONGEST = 1 << 30  # bytes of a sentence beyond which sentencepiece leaves it out: never
_UNKNOWN = "<unk>"


class SentencePiece:
    """A sentencepiece model.

    Parameters
    ----------
    data : bytes
        Of the file.

    Attributes
    ----------
    tokens : list of str
        Its pieces but for control symbols, the unknown one, and those that are never used.
    """

    def __init__(self, data: bytes) -> None:
        package = _sentencepiece()
        self._data = data
        self._package = _opened("a sentencepiece model", lambda: package.SentencePieceProcessor(model_proto=data))
        own = self._package
        self.tokens: list[str] = _opened(
            "a sentencepiece model",
            lambda: [
                own.id_to_piece(number)
                for number in range(len(own))
                if not (own.is_control(number) or own.is_unknown(number) or own.is_unused(number))
            ],
        )

    @staticmethod
    def learn(texts: Iterable[str], most: int, min_count: int) -> bytes:
        """Return a unigram model of at most `most` pieces; characters rarer than `min_count` are unknown."""
        package, out = _sentencepiece(), io.BytesIO()
        lines = [line for line in without_rare(texts, min_count) if line.strip()]
        if not lines:
            hint = "give texts, or a lower min_count."
            raise ArgumentError(describe("texts", "at least one text that is not empty", "none", hint))
        try:
            answering_ctrl_c(
                lambda: package.SentencePieceTrainer.train(
                    sentence_iterator=iter(lines), model_writer=out, vocab_size=most + 3,  # and <unk>, <s>, </s>
                    hard_vocab_limit=False, character_coverage=1.0, normalization_rule_name="identity",
                    unk_surface=_UNKNOWN, max_sentence_length=_LONGEST, minloglevel=3,
                )
            )  # fmt: skip
        except RuntimeError as error:
            hint = "give a larger max_size, or a min_count that leaves rare characters out."
            raise ArgumentError(describe("max_size", "room for all characters of the texts", error, hint)) from None
        return out.getvalue()

    def split(self, text: str) -> list[str]:
        """Return the pieces of a text; runs of unknown characters stay as they are."""
        return _used(lambda: self._package.encode(text, out_type=str))

    def join(self, tokens: list[str]) -> str:
        """Return the text of pieces, as sentencepiece writes it."""
        return _used(lambda: self._package.decode_pieces(tokens)) if tokens else ""

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        return SentencePiece, (self._data,)

    def __repr__(self) -> str:
        return _reprs.words(self, f"{len(self.tokens)} tokens")


class TokenizerJson:
    """A tokenizer of the package tokenizers.

    Parameters
    ----------
    data : bytes
        Of the file; what it says of padding, truncation and special tokens around a text is not done.

    Attributes
    ----------
    tokens : list of str
        Its vocabulary by number, without special tokens.
    """

    def __init__(self, data: bytes) -> None:
        package = need("tokenizers", "text", "tokenizer.json files")
        self._data = data

        def read() -> Any:
            text = data.decode("utf-8")
            model = parse_json(text)["model"]
            own = package.Tokenizer.from_str(text)
            own.no_padding()
            own.no_truncation()
            own.encode_special_tokens = True  # in a text they are text
            unknown = model.get("unk_token")
            if isinstance(model.get("unk_id"), int):
                [unknown, _] = model["vocab"][model["unk_id"]]
            special = {str(added.content) for added in own.get_added_tokens_decoder().values() if added.special}
            numbers = own.get_vocab(with_added_tokens=True)
            return own, [token for token in sorted(numbers, key=numbers.get) if token not in {unknown, *special, ""}]

        self._package, self.tokens = _opened("a tokenizer.json of the package tokenizers", read)
        self._known = frozenset(self.tokens)

    @staticmethod
    def learn(texts: Iterable[str], most: int, min_count: int) -> bytes:
        """Return byte-pair encoding of UTF-8 bytes, at most `most` pieces, merged from pairs not rarer than asked."""
        package = need("tokenizers", "text", "tokenizer.json files")
        if most < 256:
            hint = "give a larger max_size."
            raise ArgumentError(describe("max_size", "room for all 256 bytes and 4 special tokens", most + 4, hint))
        own = package.Tokenizer(package.models.BPE())
        own.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=True)
        own.decoder = package.decoders.ByteLevel()
        trainer = package.trainers.BpeTrainer(
            vocab_size=most,
            min_frequency=max(min_count, 2),
            initial_alphabet=package.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        lines = [" ".join(text.split()) for text in texts]
        answering_ctrl_c(lambda: own.train_from_iterator(lines, trainer))
        return own.to_str().encode("utf-8")

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text; what is unknown stays as it is."""
        found = _used(lambda: self._package.encode(text, add_special_tokens=False))
        return [
            token if token in self._known else text[begin:end] or token
            for token, (begin, end) in zip(found.tokens, found.offsets)
        ]

    def join(self, tokens: list[str]) -> str:
        """Return the text of tokens, as the file's decoder makes it, without spaces at its ends."""
        decoder = self._package.decoder
        return _used(lambda: decoder.decode(tokens) if decoder else " ".join(tokens)).strip(" ")

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        return TokenizerJson, (self._data,)

    def __repr__(self) -> str:
        return _reprs.words(self, f"{len(self.tokens)} tokens")


OPENERS: dict[str, Any] = {"sentencepiece": SentencePiece, "tokenizer": TokenizerJson}


def _sentencepiece() -> Any:
    return need("sentencepiece", "text", "sentencepiece models")


def _opened(what: str, call: Callable[[], T]) -> T:
    """Return what a call of a package makes of a file, which may be any."""
    try:
        return call()
    except FastattnError:
        raise
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        hint = "name the file that the tokenizer's library saved."
        raise ArgumentError(describe("model", what, f"{error}", hint)) from None


def _used(call: Callable[[], T]) -> T:
    """Return what a call of a package makes of a text."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        hint = "correct the tokenizer's file, or the text."
        raise TextError(describe_file("text", f"its tokenizer fails: {error}", hint)) from None
