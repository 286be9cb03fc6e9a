"""Vocabularies from files: of tokenizers, lists of tokens as others write them, and those that a run has saved."""

from typing import Any, Unpack

from fastattn._numbers import check_choice
from fastattn.errors import ArgumentError, TextError, describe_file, hint_of, problem_of
from fastattn.seq2seq.strict_json import parse_json
from fastattn.seq2seq.text import files as textfile
from fastattn.seq2seq.text.tokenizer_files import FILES
from fastattn.seq2seq.text.vocabulary import KINDS, SPECIAL, Kind, Vocabulary
from fastattn.seq2seq.text.words import Preparation

__all__ = ["read_vocabulary"]

# What the vocabulary of a checkpoint is called after its side; the file of its tokenizer stands beside it.
_SAVED = ".vocabulary.json"

_MOST = 1 << 28  # bytes: more is another file


def read_vocabulary(path: textfile.Place, kind: Kind = "word", **preparation: Unpack[Preparation]) -> Vocabulary:
    """Read a vocabulary.

    Parameters
    ----------
    path : path
        For "sentencepiece" a model, for "tokenizer" a ``tokenizer.json``; for "word" and "char" a list of tokens: one a
        line, in their order; ``token TAB number``, as sentencepiece writes ``.vocab`` files; or, in a file whose name
        ends in ``.json``, a table of numbers by token, as ``vocab.json`` is. A ``vocabulary.json`` that a run has saved
        is read for its kind, with the file of its tokenizer beside it. Any may be packed by gzip.
    kind : {"word", "char", "bpe", "sentencepiece", "tokenizer"}
    **preparation
        `punctuation`, `lowercase` and `normalization` of `Vocabulary`.

    Returns
    -------
    Vocabulary
        Of all tokens in their order, but for those spelt ``<pad>``, ``<s>``, ``</s>`` and ``<unk>``, which every
        vocabulary has.

    Raises
    ------
    TextError
        In one line, if the file cannot be read, or is none of these.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fastattn.seq2seq import read_vocabulary
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "words.txt")
    ...     _ = path.write_text("the\\ncat\\ndog\\n")
    ...     read_vocabulary(path)
    Vocabulary(7 tokens, kind='word')
    """
    name, kind = textfile.name_of(path), check_choice("kind", kind, KINDS)
    try:
        if kind in FILES:
            saved = name.removesuffix(_SAVED) if name.endswith(_SAVED) else None
            model = textfile.read_bytes(path if saved is None else f"{saved}.{FILES[kind]}", _MOST)
            asked = Vocabulary((), kind, model=model, **preparation)
            if saved is None:
                return asked
            text = textfile.read_bytes(path, _MOST).decode("utf-8", "replace")
            return _as_asked(name, Vocabulary.from_json(text, model), asked)
        if name.lower().removesuffix(".gz").endswith(".json"):
            tokens: Any = _from_json(name, textfile.read_bytes(path, _MOST), kind)
        else:
            tokens = _from_lines(path, name)
        if isinstance(tokens, Vocabulary):
            return _as_asked(name, tokens, Vocabulary((), kind, **preparation))
        if kind == "bpe":
            hint = 'name a tokenizer.json, and kind "tokenizer", or a model, and kind "sentencepiece".'
            raise TextError(describe_file(name, "is a list of pieces, which does not say how words are split", hint))
        return Vocabulary((token for token in tokens if token not in SPECIAL), kind, **preparation)
    except ArgumentError as error:
        raise TextError(describe_file(name, problem_of(error), hint_of(error))) from None


def _from_json(name: str, data: bytes, kind: str) -> list[str] | Vocabulary:
    try:
        text = data.decode("utf-8")
        content = parse_json(text)
        if isinstance(content, dict) and isinstance(content.get("tokens"), list):
            return Vocabulary.from_json(text)
        if not isinstance(content, dict) or not all(type(number) is int for number in content.values()):
            raise ValueError("no table of numbers")
        if len(set(content.values())) < len(content):
            raise ValueError("two tokens of one number")
    except ArgumentError:
        raise
    except ValueError as error:
        hint = f'name a table of numbers by token; a tokenizer.json is of kind "tokenizer", not {kind!r}.'
        raise TextError(describe_file(name, f"is not the JSON of a vocabulary: {error}", hint)) from None
    return sorted(content, key=content.__getitem__)


def _from_lines(path: textfile.Place, name: str) -> list[str]:
    tokens = []
    for number, line in enumerate(textfile.lines(path), 1):
        token, wrong = textfile.decode(line)
        if wrong or not token:
            hint = "write one token a line; a file of another sort is of another kind."
            raise TextError(describe_file(f"{name}, line {number}", wrong or "is empty", hint))
        tokens.append(token)
    parts = [token.rpartition("\t") for token in tokens]
    return [token for token, _, _ in parts] if all(token and _number(cell) for token, _, cell in parts) else tokens


def _as_asked(name: str, found: Vocabulary, asked: Vocabulary) -> Vocabulary:
    """Return a saved vocabulary, which must be what the configuration says."""
    for key in ("kind", "punctuation", "lowercase", "normalization"):
        one, other = getattr(found, key), getattr(asked, key)
        if one != other:
            problem = f"is a vocabulary with {key} {one!r}, not {other!r}"
            raise TextError(describe_file(name, problem, f"ask for {key} {one!r}, or name another file."))
    return found


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
