"""Pairs of texts as numbers: the vocabularies and batches that a run trains and validates with."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastattn._strings import string_pairs
from fastattn.errors import ArgumentError, describe
from fastattn.seq2seq.config import Config
from fastattn.seq2seq.runs.report import Report
from fastattn.seq2seq.text.batches import Batches
from fastattn.seq2seq.text.encoding import ParallelText, encode_pairs, read_pairs
from fastattn.seq2seq.text.tokenizer_files import FILES
from fastattn.seq2seq.text.vocabulary import PUNCTUATED, Kind, Vocabulary
from fastattn.seq2seq.text.vocabulary_files import read_vocabulary

__all__ = ["Corpus", "Pairs", "prepare_corpus"]

# Sources and targets.
Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Corpus:
    """What a run reads.

    Attributes
    ----------
    source_vocabulary, target_vocabulary : Vocabulary
    train : Batches
    validation : Batches or None
    validation_text : ParallelText or None
    reports : tuple of Report
        Which lines were left out.
    digest : str
        SHA-256 of all numbers: a run is resumed with the data it began with, or not at all.
    """

    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    train: Batches
    validation: Batches | None
    validation_text: ParallelText | None
    reports: tuple[Report, ...]
    digest: str


def prepare_corpus(
    config: Config,
    pairs: Pairs | None = None,
    validation: Pairs | None = None,
    vocabularies: tuple[Vocabulary, Vocabulary] | None = None,
) -> Corpus:
    """Return the corpus of a configuration.

    Parameters
    ----------
    config : Config
    pairs, validation : iterable of (source, target), optional
        To train on and to validate with, instead of the files that the configuration names.
    vocabularies : pair of Vocabulary, optional
        Those of the run that is resumed; built from the training pairs by default.

    Raises
    ------
    TextError
        If a file cannot be read, or no pair is left.
    ConfigError
        If there are no validation pairs, but the configuration says what to do with them.
    """
    if pairs is None and validation is not None:
        hint = "name a file in data.validation, or give pairs, too."
        raise ArgumentError(describe("validation", "none without pairs", type(validation).__name__, hint))
    texts = _read(config) if pairs is None else _given(pairs, validation)
    if len(texts) == 1 and not config.data.validation:
        config.check_unvalidated()
    source, target = vocabularies or _build(config, texts[0])
    settings, digest = config.training, hashlib.sha256()
    batches: list[Batches] = []
    kept: list[ParallelText] = []
    for text in texts:
        *encoded, left = encode_pairs(text, source, target, max_length=settings.max_length, strict=config.data.strict)
        for side in encoded:
            digest.update(len(side).to_bytes(8, "little"))
            for ids in side:
                digest.update(len(ids).to_bytes(8, "little") + ids.astype("<i4").tobytes())
        shuffle = not batches
        batches.append(
            Batches(*encoded, tokens_per_batch=settings.tokens_per_batch, seed=settings.seed, shuffle=shuffle)
        )
        kept.append(left)
    reports = tuple(text.report for text in kept)
    held_out: tuple[Any, Any] = (batches[1], kept[1]) if len(kept) > 1 else (None, None)
    return Corpus(source, target, batches[0], held_out[0], held_out[1], reports, digest.hexdigest())


def _read(config: Config) -> list[ParallelText]:
    data = config.data
    more: dict[str, Any] = {"columns": data.columns, "strict": data.strict}
    texts = [read_pairs(data.train, data.train_target or None, **more)]
    if data.validation:
        texts.append(read_pairs(data.validation, data.validation_target or None, **more))
    return texts


def _given(pairs: Pairs, validation: Pairs | None) -> list[ParallelText]:
    texts = [_parallel("pairs", pairs), _parallel("validation", () if validation is None else validation)]
    if not texts[0].sources:
        hint = "pass a list: an iterator that was read before has nothing left."
        raise ArgumentError(describe("pairs", "at least one pair to train on", "none", hint))
    return [text for text in texts if text.sources]


def _parallel(name: str, pairs: Pairs) -> ParallelText:
    both = list(string_pairs(name, pairs))
    report = Report(name, len(both), len(both))
    return ParallelText([source for source, _ in both], [target for _, target in both],
                        list(range(1, len(both) + 1)), report)  # fmt: skip


def _build(config: Config, text: ParallelText) -> tuple[Vocabulary, Vocabulary]:
    wanted, most = config.vocabulary, config.training.max_length
    more: list[dict[str, Any]] = []
    empty: list[Vocabulary] = []
    for kind in (wanted.source, wanted.target):
        prepared: Any = {"lowercase": wanted.lowercase, "normalization": wanted.normalization,
                         "punctuation": wanted.punctuation and kind in PUNCTUATED}  # fmt: skip
        more.append({"min_count": wanted.min_count, **prepared})
        empty.append(Vocabulary((), kind if kind not in FILES else "word", **prepared))  # as files begin with words
    # What is left out for its length teaches nothing; how many pieces a text has is known only when they are.
    pairs = [
        pair for pair in zip(text.sources, text.targets)
        if all(vocabulary.fewest(side) <= most for side, vocabulary in zip(pair, empty))
    ]  # fmt: skip
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    if wanted.shared:
        shared = _vocabulary(
            config.data.source_vocabulary, [*sources, *targets], wanted.source, wanted.source_size, more[0]
        )
        return shared, shared
    return (
        _vocabulary(config.data.source_vocabulary, sources, wanted.source, wanted.source_size, more[0]),
        _vocabulary(config.data.target_vocabulary, targets, wanted.target, wanted.target_size, more[1]),
    )


def _vocabulary(place: str, texts: list[str], kind: Kind, size: int, more: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary in a file, or if there is none, of texts."""
    min_count = more.pop("min_count")
    if place:
        return read_vocabulary(place, kind, **more)
    return Vocabulary.build(texts, kind, max_size=size or None, min_count=min_count, **more)
