"""Vocabularies in folders of Marian and BART, and for each of our tokens the number of theirs."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastattn._arrays import Array
from fastattn._optional import need
from fastattn.errors import TextError, describe_file
from fastattn.seq2seq.exchange.settings import Table, refusal
from fastattn.seq2seq.strict_json import parse_json
from fastattn.seq2seq.text.files import read_bytes
from fastattn.seq2seq.text.vocabulary import SPECIAL, Vocabulary

__all__ = ["read", "read_json", "write"]

_MOST = 1 << 28  # bytes of a tokenizer's file: more is another file

# How a Marian model of several languages spells the one that a text is to be translated to.
_LANGUAGE = re.compile(r">>.+<<")

# What our special tokens are called in their files, where the one that decoding starts with is no beginning of a text.
_NAMES = ("<pad>", "<start>", "</s>", "<unk>")

Side = tuple[Vocabulary, Array]


def read_json(path: Path) -> dict[str, Any]:
    """Return the table in a file of JSON, or raise a TextError."""
    try:
        found = parse_json(read_bytes(path, _MOST).decode("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no table")
    except ValueError as error:
        if isinstance(error, TextError):
            raise
        hint = "name a folder that save_pretrained wrote."
        raise TextError(describe_file(path, f"is not the JSON of a table: {error}", hint)) from None
    return found


def read(folder: Path, config: Table, generation: Table) -> tuple[Side, Side]:
    """Return for source and target the vocabulary, and for each of its tokens the number that it has in theirs.

    Parameters
    ----------
    folder : Path
    config, generation : mapping
        Of ``config.json`` and ``generation_config.json``.
    """
    return (_read_bart if config["model_type"] == "bart" else _read_marian)(folder, config, generation)


def _read_marian(folder: Path, config: Table, generation: Table) -> tuple[Side, Side]:
    found, names = [], []
    for side, size in (("source", "vocab_size"), ("target", "decoder_vocab_size")):
        own = folder / "target_vocab.json"
        path = own if side == "target" and own.exists() else folder / "vocab.json"
        tokens = _by_number(path, read_json(path), config.get(size) or config.get("vocab_size"))
        numbers, left = _numbers(path, tokens, config)
        names.append([tokens[number] for number in numbers[: len(SPECIAL)]])
        marks = [token for token in left if _LANGUAGE.fullmatch(token)]
        model = read_bytes(folder / f"{side}.spm", _MOST)
        found.append((Vocabulary(left, "sentencepiece", model=model, marks=marks), numbers))
    if names[0] != names[1]:
        raise refusal(folder / "target_vocab.json", "special tokens", names[1], f"{names[0]}, as in vocab.json")
    return found[0], found[1]


def _read_bart(folder: Path, config: Table, generation: Table) -> tuple[Side, Side]:
    path = folder / "tokenizer.json"
    model = read_bytes(path, _MOST)
    Vocabulary((), "tokenizer", model=model)  # what is wrong with it is said there
    own = need("tokenizers", "text", "tokenizer.json files").Tokenizer.from_str(model.decode("utf-8"))
    tokens = _by_number(path, own.get_vocab(with_added_tokens=True), config.get("vocab_size"))
    numbers, left = _numbers(path, tokens, config)
    added = [each.content for each in own.get_added_tokens_decoder().values() if each.special]
    marks = [token for token in added if token in set(left)]
    around = own.encode("", add_special_tokens=True).ids
    if around[-1:] != [config["eos_token_id"]]:
        raise refusal(path, "post_processor", [tokens[n] for n in around], "one that ends texts with eos_token_id")
    forced = generation.get("forced_bos_token_id")
    begins = around[:-1], [] if forced is None else [forced]
    for number in (number for begin in begins for number in begin):
        if not 0 <= number < len(tokens) or tokens[number] not in set(left):
            raise refusal(path, "what texts begin with", number, "a token that is neither pad, end nor unknown")
    source, target = (
        Vocabulary(left, "tokenizer", model=model, marks=marks, begin=[tokens[number] for number in begin])
        for begin in begins
    )
    return (source, numbers), (target, numbers)


def _by_number(path: Path, numbers: Mapping[str, Any], size: Any) -> list[str]:
    """Return tokens in the order of their numbers; numbers of none, up to the size of the model, have made-up ones."""
    tokens: dict[int, str] = {number: token for token, number in numbers.items()}
    if type(size) is not int or len(tokens) < len(numbers) or not set(tokens) <= set(range(size)):
        raise refusal(path, "numbers of tokens", f"{len(numbers)} for vocab_size {size!r}", "a number for each token")
    return [tokens.get(number, f"<unused {number}>") for number in range(size)]


def _numbers(path: Path, tokens: Sequence[str], config: Table) -> tuple[Array, list[str]]:
    """Return the number of each of our tokens in theirs, and our tokens without the special ones."""
    pad, eos = config.get("pad_token_id"), config.get("eos_token_id")
    start = config.get("decoder_start_token_id", pad)
    unknown = tokens.index(SPECIAL[3]) if SPECIAL[3] in tokens else None
    special = pad, start, eos, unknown
    for key, number in zip(("pad_token_id", "decoder_start_token_id", "eos_token_id", SPECIAL[3]), special):
        if type(number) is not int or not 0 <= number < len(tokens):
            raise refusal(path, key, number, "the number of a token")
    left = [number for number in range(len(tokens)) if number not in special]
    return np.array([*special, *left], np.int64), [tokens[number] for number in left]


def write(place: object, source: Vocabulary, target: Vocabulary) -> tuple[dict[str, bytes], tuple[Array, Array]]:
    """Return the tokenizers' files by name, and for each token of source and target the number that it has in them.

    Raises
    ------
    UnsupportedError
        By the name of what theirs cannot have.
    """
    for vocabulary in (source, target):
        for key, wanted in (("lowercase", False), ("normalization", "none")):
            if getattr(vocabulary, key) != wanted:
                raise refusal(place, f"vocabulary.{key}", getattr(vocabulary, key), f"{wanted!r}")
    return (_write_bart if target.kind == "tokenizer" else _write_marian)(place, source, target)


def _write_marian(
    place: object, source: Vocabulary, target: Vocabulary
) -> tuple[dict[str, bytes], tuple[Array, Array]]:
    made, tables = {}, []
    for side, vocabulary in (("source", source), ("target", target)):
        if vocabulary.kind != "sentencepiece" or vocabulary.begin:
            raise refusal(place, f"vocabulary.{side}", vocabulary.kind, "'sentencepiece', as Marian has")
        names = [*_NAMES, *vocabulary.tokens[len(SPECIAL) :]]
        tables.append({name: number for number, name in enumerate(names)})
        if len(tables[-1]) < len(names):
            raise refusal(place, f"vocabulary.{side}", "a token spelt like a special one", "none of them twice")
        made[f"{side}.spm"] = vocabulary.model
    made["vocab.json"] = _json(tables[0])
    separate = tables[0] != tables[1]
    if separate:
        made["target_vocab.json"] = _json(tables[1])
    made["tokenizer_config.json"] = _about("MarianTokenizer", separate_vocabs=separate)
    return made, (np.arange(len(source)), np.arange(len(target)))


def _write_bart(place: object, source: Vocabulary, target: Vocabulary) -> tuple[dict[str, bytes], tuple[Array, Array]]:
    if (source.kind, source.model, source.tokens) != (target.kind, target.model, target.tokens):
        raise refusal(place, "vocabulary.source", "another one", "that of the target, as BART has")
    package = need("tokenizers", "text", "tokenizer.json files")
    own = package.Tokenizer.from_str(target.model.decode("utf-8"))
    own.add_special_tokens([name for name in (*_NAMES, *source.begin) if own.token_to_id(name) is None])
    around = [*source.begin, _NAMES[2]]
    if own.encode("", add_special_tokens=True).tokens != around:
        single = " ".join([*source.begin, "$A", _NAMES[2]])
        special = [(name, own.token_to_id(name)) for name in around]
        own.post_processor = package.processors.TemplateProcessing(single=single, special_tokens=special)
    found = [own.token_to_id(name) for name in (*_NAMES, *target.tokens[len(SPECIAL) :])]
    after = own.get_vocab_size(with_added_tokens=True)
    numbers = np.array([after + i if number is None else number for i, number in enumerate(found)])
    taken = np.unique(numbers)
    numbers = np.where(numbers < after, numbers, after + np.searchsorted(taken[taken >= after], numbers))
    made = {
        "tokenizer.json": own.to_str().encode("utf-8"),
        "tokenizer_config.json": _about("PreTrainedTokenizerFast", model_input_names=["input_ids", "attention_mask"]),
    }
    return made, (numbers, numbers)


def _about(kind: str, **more: Any) -> bytes:
    pad, start, eos, unknown = _NAMES
    names = {"pad_token": pad, "bos_token": start, "eos_token": eos, "unk_token": unknown, "model_max_length": 512}
    return _json({"tokenizer_class": kind, **names, **more})


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()
