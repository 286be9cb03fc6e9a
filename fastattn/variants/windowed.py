"""Attention to a window of the memory: what both sorts of local attention share."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastattn import linear
from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn.errors import ArgumentError, describe
from fastattn.scores.base import Plain, kernel_score
from fastattn.variants.protocol.checks import check_size, check_whole
from fastattn.variants.protocol.sums import STEPS
from fastattn.variants.protocol.tape import Tape
from fastattn.variants.protocol.variant import AttentionState, Backward, MemoryGradient, Prepared, StepBackward, Variant
from fastattn.variants.published import luong
from fastattn.variants.recall import sum_values

__all__ = ["Local", "LocalPrepared", "LocalRun", "LocalStep"]


@dataclass(slots=True)
class LocalRun:
    """Queries (B, T, Dq) and all that their gradients need."""

    queries: Array
    positions: Array
    factor: Array | None
    projected: Array
    call: core.Steps
    context: Array
    weights: Array


@dataclass(slots=True)
class LocalStep:
    """What backward steps leave for `finish`.

    Where positions are predicted: tanh(W_p h), and gradients of W_p h and of what v_p makes of it.
    """

    queries: Array
    d_projected: Array
    d_context: Array
    weights: Array
    inner: Any = None
    d_inner: Any = None
    d_outer: Any = None

    def first(self) -> "LocalStep":
        """Return what the first step leaves, arrays (B, ...)."""
        arrays: list[Any] = [getattr(self, name) for name in self.__slots__]
        first: Any = (array if array is None else array[:, 0] for array in arrays)
        return LocalStep(*first)


class LocalPrepared(Prepared):
    """A memory with its keys and the score that compares them.

    Attributes
    ----------
    key : array, shape (B, S, D)
    score : Plain
    """

    key: Array
    score: Plain
    tape: Tape[LocalStep]


class Local(Variant[LocalPrepared]):
    """``a_t(s) = softmax_s(score(h_t, m_s)) g_t(s)`` over the integers s in [p_t - D, p_t + D].

    Notes
    -----
    A query is one task of a kernel, which reads 2 D + 1 rows of keys and of values, forward and back.
    """

    def __init__(
        self, query_width: int, memory_width: int, window: int, score: str, width: int | None,
        rng: np.random.Generator, dtype: Any,
    ) -> None:  # fmt: skip
        super().__init__(query_width, memory_width, dtype)
        self.window = check_size("window", window)
        if str(score) == "location":
            hint = "a window moves, so that positions in it have no weights of their own."
            raise ArgumentError(describe("score", "'dot', 'general' or 'concat'", repr(score), hint))
        self.align = luong(
            query_width=query_width, memory_width=memory_width, score=score, width=width, rng=rng, dtype=dtype
        )

    @abstractmethod
    def _positions(self, queries: Array, prepared: Prepared, state: AttentionState) -> Array:
        """Return p (B, T), float."""

    def _middle(self, positions: Array) -> Array:
        """Return where windows are: the positions, without NaN."""
        return positions

    def _factor(self, positions: Array, keys: int) -> Array | None:
        """Return g (B, T, S), or None for 1."""
        return None

    def _positions_vjp(self, run: LocalRun, prepared: LocalPrepared, d_factor: Array, left: LocalStep) -> Array:
        """Return what the positions add to the gradient of the queries, and leave what `_gather` needs."""
        raise NotImplementedError

    def _gather(self, steps: LocalStep) -> None:
        """Add to the gradients of what makes positions, over all steps."""

    def extend(self, prepared: Prepared) -> LocalPrepared:
        made = LocalPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        made.score = Plain(self.align.score)
        made.key = core.unit(self.align.score.project_key(made.memory))
        return made

    def _run(self, queries: Array, prepared: LocalPrepared, state: AttentionState) -> LocalRun:
        """Attend with queries (B, T, Dq), and keep all that the backward pass needs."""
        positions = self._positions(queries, prepared, state)
        lengths = prepared.lengths[:, None]
        middle = self._middle(positions)
        first = np.minimum(np.maximum(np.ceil(middle - self.window), 0), lengths).astype(np.int64)
        last = np.minimum(np.maximum(np.floor(middle + self.window) + 1, first), lengths).astype(np.int64)
        factor = self._factor(positions, prepared.keys)
        projected = np.ascontiguousarray(self.align.score.project_query(queries))
        call = core.Steps(
            projected, core.Keys(prepared.key, core.unit(prepared.summed), rows=prepared.rows),
            kernel_score(prepared.score, self.dtype), 1.0, first, last, prepared.mask, factor=factor,
        )  # fmt: skip
        context = np.empty((*queries.shape[:2], prepared.summed.shape[-1]), self.dtype)
        weights = np.empty((*queries.shape[:2], prepared.keys), self.dtype)
        normalized = weights if factor is None else np.empty_like(weights)
        call.forward(context, weights, normalized, np.empty(queries.shape[:2], self.dtype))
        return LocalRun(queries, positions, factor, projected, call, context, weights)

    def _back(
        self, run: LocalRun, prepared: LocalPrepared, d_context: Array, d_weights: Array | None, step: int = 0
    ) -> tuple[Array, LocalStep]:
        """Return the gradient of the queries of a run, from this step on, and what is left for `finish`."""
        d_projected = np.empty_like(run.projected)
        d_factor = None if run.factor is None else np.empty_like(run.factor)
        d_context = np.ascontiguousarray(d_context)
        d_weights = None if d_weights is None else np.ascontiguousarray(d_weights)
        steps = run.projected.shape[1]
        for first in range(0, steps, STEPS):
            sums = prepared.sums.at(step + first, lambda: self._zeros(prepared))
            run.call.backward(d_context, d_weights, d_projected, None, d_factor, sums["key"], sums.get("v"), None, None,
                              first, min(first + STEPS, steps))  # fmt: skip
        d_queries = self.align.score.query_vjp(run.queries, d_projected)
        left = LocalStep(run.queries, d_projected, d_context, run.weights)
        if d_factor is not None:
            d_queries = d_queries + self._positions_vjp(run, prepared, d_factor, left)
        return d_queries, left

    def _zeros(self, prepared: LocalPrepared) -> dict[str, Array]:
        sums = {"key": np.zeros(prepared.key.shape, self.dtype)}
        if prepared.score.vector() is not None:
            sums["v"] = np.zeros((prepared.batch, prepared.key.shape[-1]), self.dtype)
        return sums

    def _after(self, state: AttentionState, steps: int) -> AttentionState:
        return state

    def step(
        self, query: Array, prepared: LocalPrepared, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState]:
        run = self._run(self.check_query(query, prepared, state)[:, None], prepared, state)
        return run.context[:, 0], run.weights[:, 0], self._after(state, 1)

    def attend(
        self, queries: Array, prepared: LocalPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None]:
        run = self._run(queries, prepared, self.start(prepared) if state is None else state)
        return run.context, run.weights if return_weights else None

    def step_vjp(
        self, query: Array, prepared: LocalPrepared, state: AttentionState
    ) -> tuple[Array, Array, AttentionState, StepBackward]:
        query = self.check_query(query, prepared, state)[:, None]
        check_whole(prepared)
        run, step = self._run(query, prepared, state), prepared.count()

        def backward(
            d_context: Array, d_weights: Array | None, d_state: AttentionState | None
        ) -> tuple[Array, AttentionState | None]:
            given = None if d_weights is None else d_weights[:, None]
            d_query, left = self._back(run, prepared, d_context[:, None], given, step)
            prepared.tape.append(left.first())
            return d_query[:, 0], None

        context, weights, after = run.context[:, 0], run.weights[:, 0], self._after(state, 1)
        return context, weights, after, StepBackward(backward, context, weights, after)

    def attend_vjp(
        self, queries: Array, prepared: LocalPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None, Backward]:
        prepared = prepared.fresh()
        run = self._run(queries, prepared, self.start(prepared) if state is None else state)

        def backward(d_context: Array, d_weights: Array | None) -> tuple[Array, MemoryGradient]:
            d_queries, left = self._back(run, prepared, d_context, d_weights)
            return d_queries, self._finish(prepared, left, self.take(prepared)[1])

        return run.context, run.weights if return_weights else None, backward

    def finish(self, prepared: LocalPrepared) -> MemoryGradient:
        tape, sums = self.take(prepared)
        return self._finish(prepared, tape.joined() if tape else None, sums)

    def _finish(self, prepared: LocalPrepared, steps: LocalStep | None, sums: dict[str, Array]) -> MemoryGradient:
        d_values = np.zeros(prepared.summed.shape, self.dtype)
        if steps is None:
            return prepared.gradient(np.zeros_like(prepared.memory), d_values)
        align, score, sums = self.align, self.align.score, sums or self._zeros(prepared)
        seen = np.flatnonzero(steps.weights.any(axis=(0, 1)))
        near = slice(seen[0], seen[-1] + 1) if len(seen) else slice(0)  # what no window reached takes no product
        sum_values(steps.weights[..., near], steps.d_context, d_values[:, near])
        align.accumulate(score.query_gradients(steps.queries, steps.d_projected))
        self._gather(steps)
        align.accumulate(score.key_gradients(prepared.memory, sums["key"]))
        if "v" in sums:
            align.accumulate(score.vector_gradients(linear.row_sum(sums["v"])))
        return prepared.gradient(score.key_vjp(prepared.memory, sums["key"]), d_values)
