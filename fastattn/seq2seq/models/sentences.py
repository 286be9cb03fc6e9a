"""Padded arrays of sentences: what a decoder is fed, what it is compared with, and checks of both."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from fastattn._arrays import Array, as_array, frozen
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe
from fastattn.layers import dropout_vjp
from fastattn.seq2seq.models.randomness import derive
from fastattn.seq2seq.text.vocabulary import BOS, PAD
from fastattn.variants.protocol.checks import check_kind

__all__ = [
    "IGNORED",
    "BatchLike",
    "check_batch",
    "check_seeds",
    "check_sentences",
    "decoder_inputs",
    "dropping",
    "length_mask",
    "padded",
    "targets_of",
]

IGNORED = -1  # the target of a position that counts for nothing


class BatchLike(Protocol):
    """Source and target sentences of one batch: `fastattn.seq2seq.Batch`, or anything with these arrays."""

    @property
    def source(self) -> Array:
        """Ids, (B, S); what lies beyond a length is never read."""
        ...

    @property
    def source_lengths(self) -> Array:
        """Lengths, (B,)."""
        ...

    @property
    def target(self) -> Array:
        """Ids, (B, T), without a first `BOS` and with a last `EOS`."""
        ...

    @property
    def target_lengths(self) -> Array:
        """Lengths, (B,), the `EOS` included."""
        ...


def length_mask(ids: Array, lengths: Array) -> Array:
    """Whether a position is before the end of its sentence, (B, T)."""
    return np.arange(ids.shape[1]) < np.asarray(lengths)[:, None]


def padded(ids: Array, lengths: Array) -> Array:
    """Return ids with `PAD` beyond each length, whatever was there."""
    return np.where(length_mask(ids, lengths), ids, PAD)


def decoder_inputs(batch: BatchLike) -> Array:
    """Return what a teacher-forced decoder is fed, (B, T): `BOS`, then the target without its last token."""
    inputs = np.full(batch.target.shape, PAD, np.int64)
    inputs[:, :1] = BOS
    inputs[:, 1:] = batch.target[:, :-1]
    return padded(inputs, batch.target_lengths)


def dropping(rate: float, seeds: Array | None) -> Callable[[Array, int], tuple[Array, Callable[[Array], Array]]]:
    """Return ``drop(x, place)``, dropout with seeds that differ from place to place of a model; none without seeds."""

    def drop(x: Array, place: int) -> tuple[Array, Callable[[Array], Array]]:
        return (x, lambda dx: dx) if seeds is None or not rate else dropout_vjp(x, rate, derive(seeds, place))

    return drop


def targets_of(batch: BatchLike) -> Array:
    """Return the targets, with `IGNORED` beyond each length."""
    return np.where(length_mask(batch.target, batch.target_lengths), batch.target, IGNORED)


def check_sentences(name: str, ids: Array, lengths: Array) -> None:
    """Raise unless `ids` are (B, T) integers and `lengths` (B,) integers from 1 to T."""
    check_kind(name, ids, np.ndarray, "pass np.array(ids), sentences padded to one length.")
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        got = f"{ids.dtype} of shape {ids.shape}"
        raise DTypeError(describe(name, "an array of ids (sentences, positions)", got, "pad sentences to one length."))
    lengths = as_array(f"{name}_lengths", lengths)
    if lengths.shape != ids.shape[:1] or lengths.dtype.kind not in "iu":
        got = f"{lengths.dtype} of shape {lengths.shape}"
        raise ShapeError(describe(f"{name}_lengths", f"{len(ids)} integers", got, "pass one length a sentence."))
    if lengths.size and not 1 <= int(lengths.min()) <= int(lengths.max()) <= ids.shape[1]:
        got = f"{lengths.min()} to {lengths.max()}"
        hint = "a sentence has at least its end token."
        raise ArgumentError(describe(f"{name}_lengths", f"values from 1 to {ids.shape[1]}", got, hint))


class _Own(NamedTuple):
    """A batch whose arrays nobody else has."""

    source: Array
    source_lengths: Array
    target: Array
    target_lengths: Array


def check_batch(batch: BatchLike) -> BatchLike:
    """Return a copy of the batch that nobody can change, or raise unless its arrays fit together."""
    if not all(hasattr(batch, name) for name in _Own._fields):
        hint = "pass a fastattn.seq2seq.Batch."
        raise DTypeError(describe("batch", f"an object with {', '.join(_Own._fields)}", type(batch).__name__, hint))
    own = _Own(*(frozen(as_array(name, getattr(batch, name))) for name in _Own._fields))
    check_sentences("source", own.source, own.source_lengths)
    check_sentences("target", own.target, own.target_lengths)
    if len(own.source) != len(own.target):
        hint = "a batch has pairs of sentences."
        raise ShapeError(describe("target", f"{len(own.source)} sentences", len(own.target), hint))
    return own


def check_seeds(seeds: Array, batch: int) -> Array:
    """Return the seeds of `batch` sentences as uint64, or raise."""
    array = as_array("seeds", seeds)
    if array.dtype.kind not in "iu" or array.shape != (batch,):
        got = f"{array.dtype} of shape {array.shape}"
        raise ShapeError(describe("seeds", f"{batch} integers, one a sentence", got, "pass uint64 seeds."))
    return array.astype(np.uint64)
