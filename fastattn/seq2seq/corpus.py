"""Pairs of texts as numbers: the vocabularies and batches that a run trains and validates with."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn.errors import TextError, describe_file
from fastattn.seq2seq.batches import Batches
from fastattn.seq2seq.config import Config
from fastattn.seq2seq.vocabulary import EOS, Vocabulary

__all__ = ["Corpus", "Pairs", "build_vocabularies", "prepare_corpus"]

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Corpus:
    """What a run reads.

    Attributes
    ----------
    source_vocabulary, target_vocabulary : Vocabulary
    train : Batches
    validation : Batches or None
    validation_pairs : sequence of pairs of str
        Their texts.
    digest : str
        SHA-256 of all numbers: a run is resumed with the data it began with, or not at all.
    """

    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    train: Batches
    validation: Batches | None
    validation_pairs: Pairs
    digest: str


def build_vocabularies(config: Config, pairs: Pairs) -> tuple[Vocabulary, Vocabulary]:
    """Return the source and the target vocabulary of training pairs, as the configuration wants them."""
    wanted = config.vocabulary
    more: dict[str, Any] = {"min_count": wanted.min_count}
    if wanted.shared:
        both = [text for pair in pairs for text in pair]
        shared = Vocabulary.build(both, wanted.source, max_size=wanted.source_size or None, **more)
        return shared, shared
    sources, targets = [source for source, _ in pairs], [target for _, target in pairs]
    return (
        Vocabulary.build(sources, wanted.source, max_size=wanted.source_size or None, **more),
        Vocabulary.build(targets, wanted.target, max_size=wanted.target_size or None, **more),
    )


def prepare_corpus(
    config: Config,
    train: Pairs,
    validation: Pairs,
    vocabularies: tuple[Vocabulary, Vocabulary] | None = None,
) -> Corpus:
    """Return texts as batches.

    Parameters
    ----------
    config : Config
    train, validation : sequences of pairs of str
        Already without the lines that cannot be used; the second may be empty.
    vocabularies : pair of Vocabulary, optional
        Those of the run that is resumed; built from the training pairs by default.

    Raises
    ------
    TextError
        If there is no training pair.
    """
    if not train:
        hint = "the file is empty, or every line was left out."
        raise TextError(describe_file(config.data.train, "no pair to train on", hint))
    source, target = vocabularies or build_vocabularies(config, train)
    settings, digest = config.training, hashlib.sha256()
    batches = []
    for pairs, shuffle in ((train, True), (validation, False)):
        encoded = [[_ended(source, s) for s, _ in pairs], [_ended(target, t) for _, t in pairs]]
        for side in encoded:
            digest.update(len(side).to_bytes(8, "little"))
            for ids in side:
                digest.update(len(ids).to_bytes(8, "little") + ids.astype("<i4").tobytes())
        batches.append(
            Batches(*encoded, tokens_per_batch=settings.tokens_per_batch, seed=settings.seed, shuffle=shuffle)
        )
    held_out = batches[1] if validation else None
    return Corpus(source, target, batches[0], held_out, validation, digest.hexdigest())


def _ended(vocabulary: Vocabulary, text: str) -> NDArray[np.int32]:
    return np.append(vocabulary.encode(vocabulary.split(text)), np.int32(EOS))
