"""Beam search with length and coverage penalties."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn._numbers import check_flag
from fastattn.errors import ArgumentError, describe
from fastattn.seq2seq.models.model import Model
from fastattn.seq2seq.schema import argument
from fastattn.seq2seq.search.constraints import Constraints
from fastattn.seq2seq.search.decoding import Hypothesis, attended, begun, check_cache, check_limits, mean_of_heads
from fastattn.seq2seq.sections import Cache, InferenceConfig
from fastattn.seq2seq.text.vocabulary import BOS, EOS
from fastattn.variants.protocol.checks import check_size

__all__ = ["Beams", "beam_search", "beam_steps", "length_factor"]

_LEAST_COVERAGE = 1e-30  # a source position that nothing attended to would make the penalty infinite


def length_factor(length: int, alpha: float, norm: str = "wu") -> float:
    """Return ``((5 + length) / 6) ** alpha`` (Wu et al. 2016, equation 14, "lp"), or ``length ** alpha``."""
    return ((5 + length) / 6 if norm == "wu" else length) ** alpha


def beam_search(
    model: Model,
    source: Array,
    source_lengths: Array,
    *,
    size: int = 5,
    best: int = 1,
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
    length_norm: str = "wu",
    limit: int | Array | None = None,
    forbid: Sequence[int] = (),
    allow: Sequence[int] | None = None,
    prefix: Sequence[Sequence[int] | Array] | None = None,
    weights: bool = False,
    cache: Cache = "float32",
) -> list[list[Hypothesis]]:
    """Return for each source the best sentences that a beam search finds.

    ::

        score(Y) = log P(Y) / ((5 + |Y|) / 6)^alpha + beta sum_j log min(sum_i weights_ij, 1)

    with ``|Y|`` counting `EOS`, alpha the length penalty and beta the coverage penalty (Wu et al. 2016, equation 14).

    Parameters
    ----------
    model : Model
    source : int array, shape (B, S)
    source_lengths : int array, shape (B,)
    size : int
        Unfinished sentences that are kept at every step, those of the largest probability.
    best : int
        Hypotheses to return for each source, at most `size`.
    length_penalty : float
        alpha; 0 ranks by probability, which favours short sentences, 1 nearly by the mean of a token.
    coverage_penalty : float
        beta; needs a model with attention, whose heads are averaged.
    length_norm : {"wu", "length"}
        What alpha is the exponent of: ``(5 + |Y|) / 6``, or ``|Y|`` itself, with which 1 ranks by the mean of a token.
    limit, forbid, allow, prefix, weights, cache
        As for `greedy`.

    Returns
    -------
    list of lists of Hypothesis
        For each source, the best score first. If fewer than `best` sentences were finished within the limit,
        unfinished ones follow.

    Notes
    -----
    A sentence that ends among the `size` best extensions of a step is finished. The search for a source stops when
    `best` are finished and no unfinished one can be above them any more: its probability only falls, and its score is
    at most that probability over the length factor of `limit`. So nothing that a search up to the limit would have
    returned is missed; with a length penalty, a smaller `limit` ends searches earlier.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import BahdanauConfig, beam_search, build
    >>> config = BahdanauConfig(embedding=8, hidden=16, attention=16, readout_width=8)
    >>> model = build(config, 10, 12, seed=0)
    >>> [found] = beam_search(model, np.array([[4, 5, 2]]), np.array([3]), size=4, best=2, length_penalty=0.6)
    >>> len(found), found[0].score >= found[1].score
    (2, True)
    """
    steps = beam_steps(
        model, source, source_lengths, size=size, best=best, length_penalty=length_penalty,
        coverage_penalty=coverage_penalty, length_norm=length_norm, limit=limit, forbid=forbid, allow=allow,
        prefix=prefix, weights=weights, cache=cache,
    )  # fmt: skip
    last = list(steps)[-1:]  # the same beams after each step
    return [beams.results(b) for beams in last for b in range(len(beams.lengths))]


def beam_steps(
    model: Model,
    source: Array,
    source_lengths: Array,
    *,
    size: int,
    best: int,
    length_penalty: float,
    coverage_penalty: float,
    length_norm: str = "wu",
    limit: int | Array | None,
    forbid: Sequence[int] = (),
    allow: Sequence[int] | None = None,
    prefix: Sequence[Sequence[int] | Array] | None = None,
    weights: bool,
    cache: Cache = "float32",
) -> Iterator["Beams"]:
    """Search as `beam_search`, and hand the beams out after each step."""
    source, source_lengths, limits = check_limits(model, source, source_lengths, limit)
    constraints, weights = Constraints(model, limits, forbid, allow, prefix), check_flag("weights", weights)
    size, storage = check_size("size", size), check_cache(model, cache)
    length_penalty = argument(InferenceConfig, "length_penalty", length_penalty)
    coverage_penalty = argument(InferenceConfig, "coverage_penalty", coverage_penalty)
    length_norm = argument(InferenceConfig, "length_norm", length_norm)
    if check_size("best", best) > size:
        hint = "a beam of n finds at most n sentences."
        raise ArgumentError(describe("best", f"from 1 to the beam's size {size}", best, hint))
    if not len(source):
        return
    try:
        length_factor(int(limits.max()), length_penalty, length_norm)
    except OverflowError:
        got = f"{length_penalty} for {int(limits.max())} tokens"
        raise ArgumentError(describe("length_penalty", "a factor of finite size", got, "1 is much already.")) from None
    beams = Beams(source_lengths, limits, size, best, length_penalty, coverage_penalty, weights, length_norm)
    state: Any = begun(model, source, source_lengths, storage)
    while True:
        log_probabilities, state, of_step = model.step(beams.tokens[-1], state)
        constraints.apply(log_probabilities, beams.of_rows(), len(beams.tokens) - 1)
        rows = beams.extend(log_probabilities, of_step)
        yield beams
        if not len(rows):
            return
        if not np.array_equal(rows, np.arange(len(log_probabilities))):
            state = state.select(rows)


class _Found(NamedTuple):
    """A sentence that is not extended any more: what step `step` made of its row `row`, by its end or by `last`."""

    score: float
    total: float
    step: int
    row: int
    last: int


class Beams:
    """The unfinished sentences, k rows for each source that is still searched, and all finished ones.

    `tokens[t]`, `parents[t]` and `weights[t]` are those of the rows that step t was fed: the token, the row of step
    t - 1 it came from, and what it attended to. Sentences are read off them backwards when they are wanted.
    """

    def __init__(
        self, lengths: Array, limits: Array, size: int, best: int, alpha: float, beta: float, keep_weights: bool,
        norm: str,
    ) -> None:  # fmt: skip
        batch = len(lengths)
        self.lengths, self.limits, self.size, self.best = np.asarray(lengths), limits, size, best
        self.alpha, self.beta, self.keep_weights, self.norm = alpha, beta, keep_weights, norm
        self.sources = np.arange(batch)
        self.totals = np.zeros((batch, 1))
        self.tokens, self.parents = [np.full(batch, BOS)], [np.zeros(batch, np.int64)]
        self.weights: list[Array] = []
        self.coverage: Array | None = None
        # Of each source: sentences with an end, and those at the limit of length.
        self.finished: list[list[_Found]] = [[] for _ in range(batch)]
        self.cut: list[list[_Found]] = [[] for _ in range(batch)]

    def of_rows(self) -> Array:
        """Return the source of each row."""
        return np.repeat(self.sources, self.totals.shape[1])

    def extend(self, log_probabilities: Array, weights: Array | None) -> Array:
        """Choose the extensions of all rows; return the rows that the next step continues, with repetitions."""
        n, k = self.totals.shape
        step, size = len(self.tokens) - 1, self.size
        if self.keep_weights:
            self.weights.append(attended(weights))
        if self.beta:
            seen = mean_of_heads(attended(weights)).astype(np.float64)
            self.coverage = seen if self.coverage is None else self.coverage + seen
        values, ids = _largest(log_probabilities, 2 * size)
        width = ids.shape[1]
        scores = (self.totals[:, :, None] + values.reshape(n, k, width)).reshape(n, k * width)
        order = np.argsort(-scores, axis=-1, kind="stable")[:, : 2 * size]
        scores = np.take_along_axis(scores, order, axis=-1)
        tokens = np.take_along_axis(ids.reshape(n, k * width), order, axis=-1)
        parents = order // width + np.arange(n)[:, None] * k
        ends = tokens == EOS
        for i, rank in zip(*np.nonzero(ends[:, :size] & (scores[:, :size] > -np.inf))):
            b = int(self.sources[i])
            self.finished[b].append(self._found(b, float(scores[i, rank]), step, int(parents[i, rank]), EOS))
        # At most one end for each of k rows: what is left is enough for the next k.
        live = np.argsort(ends, axis=-1, kind="stable")[:, : min(size, order.shape[1] - min(k, size))]
        scores, tokens, parents = (np.take_along_axis(x, live, axis=-1) for x in (scores, tokens, parents))
        going = []
        for i, b in enumerate(self.sources.tolist()):
            if not self._ended(b, step + 1, scores[i]):
                going.append(i)
                continue
            for total, row, token in zip(scores[i].tolist(), parents[i].tolist(), tokens[i].tolist()):
                if total > -np.inf:
                    self.cut[b].append(self._found(b, total, step, row, token))
        rows = parents[going].reshape(-1)
        self.sources, self.totals = self.sources[going], scores[going]
        self.tokens.append(tokens[going].reshape(-1))
        self.parents.append(rows)
        if self.coverage is not None:
            self.coverage = self.coverage[rows]
        return rows

    def results(self, b: int) -> list[Hypothesis]:
        """Return the best sentences of source b."""
        found = sorted(self.finished[b], key=lambda one: -one.score)[: self.best]
        found += sorted(self.cut[b], key=lambda one: -one.score)[: self.best - len(found)]
        return [self._read(b, one) for one in found]

    def unfinished(self, step: int, sources: Array, totals: Array) -> list[Hypothesis]:
        """Return the sentences that were unfinished after a step, when `sources` and `totals` were these."""
        found = []
        for i, (row, token) in enumerate(zip(self.parents[step + 1].tolist(), self.tokens[step + 1].tolist())):
            total = float(totals.flat[i])
            found.append(self._read(int(sources[i // totals.shape[1]]), _Found(total, total, step, row, token)))
        return found

    def _ended(self, b: int, length: int, totals: Array) -> bool:
        """Whether the search for source b is over, its sentences having `length` tokens."""
        if length >= self.limits[b] or not totals.size or totals[0] == -np.inf:
            return True
        if len(self.finished[b]) < self.best:
            return False
        worst = sorted((one.score for one in self.finished[b]), reverse=True)[self.best - 1]
        # Scores are negative: the longest sentence has the largest that a probability can come to.
        return bool(totals[0] / length_factor(int(self.limits[b]), self.alpha, self.norm) < worst)

    def _found(self, b: int, total: float, step: int, row: int, last: int) -> _Found:
        score = total / length_factor(step + 1, self.alpha, self.norm)
        if self.coverage is not None:
            covered = self.coverage[row, : self.lengths[b]].tolist()
            score += self.beta * sum(math.log(min(max(c, _LEAST_COVERAGE), 1.0)) for c in covered)
        return _Found(score, total, step, row, last)

    def _read(self, b: int, one: _Found) -> Hypothesis:
        tokens, weights, step, row = [one.last], [], one.step, one.row
        while True:
            if self.keep_weights:
                weights.append(self.weights[step][row, ..., : self.lengths[b]])
            if step == 0:
                break
            tokens.append(int(self.tokens[step][row]))
            row, step = int(self.parents[step][row]), step - 1
        ended = one.last == EOS
        of_tokens = np.stack(weights[::-1]) if self.keep_weights else None
        return Hypothesis(np.array(tokens[ended:][::-1], np.int64), one.total, one.score, ended, of_tokens)


def _largest(x: Array, count: int) -> tuple[Array, Array]:
    """Return the `count` largest elements of each row, descending and as float64, and their columns."""
    x = np.ascontiguousarray(x)
    shape = len(x), min(count, x.shape[1])
    values, ids = np.empty(shape, x.dtype), np.empty(shape, np.int64)
    core.largest(x, values, ids)
    return np.take_along_axis(x, ids, axis=-1).astype(np.float64), ids
