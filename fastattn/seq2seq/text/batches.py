"""Batches of samples of similar length, in an order that is a function of (seed, epoch) alone.

Nothing random is carried from batch to batch: the plan of an epoch is computed from two integers, so a resumed run
needs the epoch and the number of the next batch, and sees what an uninterrupted one would have seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import _reprs
from fastattn._arrays import Array, as_array
from fastattn._kernels import core
from fastattn._numbers import check_flag
from fastattn._strings import items
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe
from fastattn.seq2seq.text.vocabulary import PAD
from fastattn.variants.protocol.checks import check_size

__all__ = ["Batch", "Batches", "group", "mix64", "pad", "sample_seeds"]

# What a number is drawn for: the same (seed, epoch, index) gives independent numbers for each.
_SAMPLES, _BATCHES, _SEEDS = range(3)


@dataclass(frozen=True)
class Batch:
    """Samples side by side, padded to the longest.

    Attributes
    ----------
    source : int32 array, shape (B, S)
        Each row ends with EOS, then PAD.
    source_lengths : int64 array, shape (B,)
        With EOS.
    target : int32 array, shape (B, T)
        Without BOS; each row ends with EOS, then PAD.
    target_lengths : int64 array, shape (B,)
        With EOS.
    indices : int64 array, shape (B,)
        Which samples they are.
    """

    source: NDArray[np.int32]
    source_lengths: NDArray[np.int64]
    target: NDArray[np.int32]
    target_lengths: NDArray[np.int64]
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.source)

    __repr__ = _reprs.fields


def mix64(numbers: Array) -> NDArray[np.uint64]:
    """Return the 64-bit mix of every element: one step of splitmix64, as `core.mix64` computes it for one integer.

    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", figure 17.
    """
    u = np.array(numbers, np.uint64, ndmin=1)  # a copy; products of arrays wrap around without a warning
    u += np.uint64(0x9E3779B97F4A7C15)
    u = (u ^ (u >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    u = (u ^ (u >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return u ^ (u >> np.uint64(31))


def _numbers(seed: int, epoch: int, stream: int, indices: Array) -> NDArray[np.uint64]:
    """Return one 64-bit number for each index, different for every seed, epoch and stream."""
    start = core.mix64(core.mix64(core.mix64(seed) + epoch) + stream)
    return mix64(np.asarray(indices).astype(np.uint64) + np.uint64(start))


def sample_seeds(seed: int, epoch: int, indices: Array) -> NDArray[np.uint64]:
    """Return the seed of each sample's dropout: a function of (seed, epoch, index), whatever the batch.

    Parameters
    ----------
    seed, epoch : int
    indices : int array, shape (B,)

    Returns
    -------
    uint64 array, shape (B,)
    """
    return _numbers(seed, epoch, _SEEDS, indices)


def _sequences(name: str, value: object) -> list[Any]:
    """Return an iterable of sequences of ids as a list, or raise."""
    hint = "pass a list of arrays of ids, such as encode returns."
    found = list(items(name, "sequences of ids", value, hint))
    for place, sequence in enumerate(found):
        if not isinstance(sequence, np.ndarray):
            found[place] = sequence = as_array(f"{name}[{place}]", sequence)
        if sequence.ndim != 1 or (sequence.dtype.kind not in "iu" and sequence.size):
            got = f"{sequence.dtype} of shape {sequence.shape}"
            raise DTypeError(describe(f"{name}[{place}]", "a sequence of ids", got, hint))
    return found


def pad(sequences: Sequence[Array]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return sequences of numbers as rows of one array filled up with PAD, and their lengths.

    Examples
    --------
    >>> from fastattn.seq2seq.text.batches import pad
    >>> pad([[5, 2], [6, 7, 2]])
    (array([[5, 2, 0],
           [6, 7, 2]], dtype=int32), array([2, 3]))
    """
    sequences = _sequences("sequences", sequences)
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
    ids = np.full((len(sequences), int(lengths.max(initial=0))), PAD, np.int32)
    for row, sequence in zip(ids, sequences):
        row[: len(sequence)] = sequence
    return ids, lengths


def group(lengths: Array, tokens_per_batch: int, order: Array | None = None) -> list[NDArray[np.int64]]:
    """Cut samples, sorted by length, into groups that hold at most `tokens_per_batch` tokens with their padding.

    Parameters
    ----------
    lengths : int array, shape (N,) or (N, k)
        k lengths of each sample: it is as long as the largest of them; sorted by the last, then by those before it.
    tokens_per_batch : int
        Bound of (samples of a group) x (the longest of them).
    order : int array, optional
        Which samples, and how those of equal lengths follow each other; by default all in order.

    Returns
    -------
    list of int64 arrays
        Indices of samples; every sample is in exactly one group.

    Raises
    ------
    ArgumentError
        If one sample alone is longer than `tokens_per_batch`.
    """
    lengths, tokens_per_batch = as_array("lengths", lengths), check_size("tokens_per_batch", tokens_per_batch)
    if lengths.ndim not in (1, 2) or (lengths.size and lengths.dtype.kind not in "iu"):
        got = f"{lengths.dtype} of shape {lengths.shape}"
        raise DTypeError(describe("lengths", "integers of shape (N,) or (N, k)", got, "pass one length a sample."))
    lengths = lengths[:, None] if lengths.ndim == 1 else lengths
    chosen = np.arange(len(lengths)) if order is None else np.asarray(order, np.int64)
    chosen = chosen[np.lexsort(lengths[chosen].T)]
    sizes = lengths[chosen].max(axis=1, initial=0)
    if sizes.max(initial=0) > tokens_per_batch:
        sample = int(chosen[sizes.argmax()])
        got = f"{sizes.max()} tokens in sample {sample}"
        hint = "raise tokens_per_batch, or leave out sentences of that length (max_length)."
        raise ArgumentError(describe("tokens_per_batch", f"samples of at most {tokens_per_batch} tokens", got, hint))
    groups, first, longest = [], 0, 0
    for position, size in enumerate(sizes.tolist()):
        longest = max(longest, size)
        if (position - first + 1) * longest > tokens_per_batch:
            groups.append(chosen[first:position])
            first, longest = position, size
    if len(chosen) > first:
        groups.append(chosen[first:])
    return groups


class Batches:
    """The batches of a corpus, epoch by epoch.

    Parameters
    ----------
    source, target : sequences of int arrays
        Numbers of tokens; each ends with EOS, targets without BOS.
    tokens_per_batch : int
        Bound of rows x longest row, source or target, padding included.
    seed : int
    shuffle : bool
        False: sorted by length, the same in every epoch, as for validation.
    pool : int
        Samples are shuffled, cut into pools of about this many batches, and sorted within a pool; then the batches
        are shuffled. A large pool saves padding, a small one changes more from epoch to epoch which samples share a
        batch.

    Notes
    -----
    The plan of an epoch costs a sort of the samples; only the last one is kept. Bahdanau et al. 2015, appendix B.2,
    sort pools of 20 batches.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import Batches
    >>> samples = [np.array([4] * n + [2]) for n in (1, 3, 2, 1)]
    >>> batches = Batches(samples, samples, tokens_per_batch=8, shuffle=False)
    >>> [batch.source.shape for batch in batches.epoch(0)]
    [(2, 2), (2, 4)]
    >>> next(batches.epoch(0, start=1)).indices  # as a resumed run begins
    array([2, 1])
    """

    def __init__(
        self,
        source: Sequence[Array],
        target: Sequence[Array],
        *,
        tokens_per_batch: int,
        seed: int = 0,
        shuffle: bool = True,
        pool: int = 50,
    ) -> None:
        source, target = _sequences("source", source), _sequences("target", target)
        if len(source) != len(target):
            hint = "give one target for every source."
            raise ShapeError(describe("target", f"{len(source)} samples, as in source", f"{len(target)} samples", hint))
        pool, tokens_per_batch = check_size("pool", pool), check_size("tokens_per_batch", tokens_per_batch)
        check_size("seed", seed, least=0)
        self.source, self.target = source, target
        self.tokens_per_batch, self.seed, self.shuffle = tokens_per_batch, seed, check_flag("shuffle", shuffle)
        self._lengths = np.array([[len(s), len(t)] for s, t in zip(source, target)], np.int64).reshape(-1, 2)
        tokens = int(self._lengths.max(axis=1, initial=0).sum())
        self._pool = max(1, pool * tokens_per_batch * len(source) // max(tokens, 1))
        self._planned: tuple[int, list[NDArray[np.int64]]] | None = None
        self.plan(0)  # a sample that is too long is an error now

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """Return the indices of the samples of every batch of an epoch, in order."""
        key = check_size("epoch", epoch, least=0) if self.shuffle else 0
        if self._planned is None or self._planned[0] != key:
            self._planned = key, self._shuffled(key) if self.shuffle else group(self._lengths, self.tokens_per_batch)
        return self._planned[1]

    def _shuffled(self, epoch: int) -> list[NDArray[np.int64]]:
        order = np.argsort(_numbers(self.seed, epoch, _SAMPLES, np.arange(len(self.source))), kind="stable")
        pools = (order[first : first + self._pool] for first in range(0, len(order), self._pool))
        groups = [indices for part in pools for indices in group(self._lengths, self.tokens_per_batch, part)]
        turn = np.argsort(_numbers(self.seed, epoch, _BATCHES, np.arange(len(groups))), kind="stable")
        return [groups[number] for number in turn]

    def count(self, epoch: int = 0) -> int:
        """Return the number of batches of an epoch; with shuffling it differs a little from epoch to epoch."""
        return len(self.plan(epoch))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number `start` on."""
        for indices in self.plan(epoch)[start:]:
            source, source_lengths = pad([self.source[i] for i in indices])
            target, target_lengths = pad([self.target[i] for i in indices])
            yield Batch(source, source_lengths, target, target_lengths, indices.copy())

    def __repr__(self) -> str:
        return f"Batches({len(self.source)} samples, at most {self.tokens_per_batch} tokens)"
