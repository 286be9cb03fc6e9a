"""Attention to a window of the memory: what both sorts of local attention share."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn import linear
from fastattn._kernels import core
from fastattn._numbers import check_flag
from fastattn.attention import AttentionOutput
from fastattn.errors import ArgumentError, describe
from fastattn.scores.base import KERNEL_ADDITIVE, Score, kernel_score
from fastattn.variants.luong import luong
from fastattn.variants.protocol.backward import check_cotangents
from fastattn.variants.protocol.checks import check_size, check_whole
from fastattn.variants.protocol.sums import STEPS
from fastattn.variants.protocol.variant import Array, AttentionState, MemoryGradient, Prepared, StepBackward, Variant
from fastattn.variants.recall import sum_values

__all__ = ["Local"]


class LocalPrepared(Prepared):
    """A memory with its keys and the score that compares them.

    Attributes
    ----------
    key : array, shape (B, S, D)
    score : Score
    """

    key: Array
    score: Score


class Local(Variant):
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

    def _positions_vjp(self, run: dict[str, Any], prepared: Prepared, d_factor: Array) -> Array:
        """Return what the positions add to the gradient of the queries; leaves in `run` what `_gather` needs."""
        raise NotImplementedError

    def _gather(self, run: dict[str, Array]) -> None:
        """Add to the gradients of what makes positions, over all steps."""

    def _prepare(self, prepared: Prepared) -> LocalPrepared:
        made = LocalPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        made.score = self.align._score()
        made.key = core.unit(self.align._key(made.memory))
        return made

    def _run(self, queries: Array, prepared: Any, state: AttentionState) -> dict[str, Any]:
        """Attend with queries (B, T, Dq), and keep all that the backward pass needs."""
        positions = self._positions(queries, prepared, state)
        lengths = prepared.lengths[:, None]
        middle = self._middle(positions)
        first = np.minimum(np.maximum(np.ceil(middle - self.window), 0), lengths).astype(np.int64)
        last = np.minimum(np.maximum(np.floor(middle + self.window) + 1, first), lengths).astype(np.int64)
        factor = self._factor(positions, prepared.keys)
        projected = np.ascontiguousarray(self.align._project(queries))
        call = core.Steps(
            projected, core.Keys(prepared.key, core.unit(prepared.summed), rows=prepared.rows),
            kernel_score(prepared.score, self.dtype), 1.0, first, last, prepared.mask, factor=factor,
        )  # fmt: skip
        context = np.empty((*queries.shape[:2], prepared.summed.shape[-1]), self.dtype)
        weights = np.empty((*queries.shape[:2], prepared.keys), self.dtype)
        normalized = weights if factor is None else np.empty_like(weights)
        call.forward(context, weights, normalized, np.empty(queries.shape[:2], self.dtype))
        return {"queries": queries, "positions": positions, "factor": factor, "projected": projected, "call": call,
                "context": context, "weights": weights}  # fmt: skip

    def _back(
        self, run: dict[str, Any], prepared: Any, d_context: Array, d_weights: Array | None, step: int = 0
    ) -> Array:
        """Return the gradient of the queries of a run, from this step on, and leave the rest on the tape."""
        factor, projected = run["factor"], run["projected"]
        d_projected = np.empty_like(projected)
        d_factor = None if factor is None else np.empty_like(factor)
        d_context = np.ascontiguousarray(d_context)
        d_weights = None if d_weights is None else np.ascontiguousarray(d_weights)
        for first in range(0, projected.shape[1], STEPS):
            sums = prepared.sums.at(step + first, lambda: self._zeros(prepared))
            run["call"].backward(d_context, d_weights, d_projected, None, d_factor, sums["key"], sums.get("v"), None,
                                 None, first, min(first + STEPS, projected.shape[1]))  # fmt: skip
        d_queries = self.align._project_vjp(run["queries"], projected, d_projected)
        left = {"queries": run["queries"], "d_projected": d_projected, "d_context": d_context,
                "weights": run["weights"]}  # fmt: skip
        if d_factor is not None:
            d_queries = d_queries + self._positions_vjp(run, prepared, d_factor)
            left |= {name: run[name] for name in ("inner", "d_inner", "d_outer")}
        prepared.tape.append(left)
        return d_queries

    def _zeros(self, prepared: Any) -> dict[str, Array]:
        sums = {"key": np.zeros(prepared.key.shape, self.dtype)}
        if prepared.score.kernel == KERNEL_ADDITIVE:
            sums["v"] = np.zeros((prepared.batch, prepared.key.shape[-1]), self.dtype)
        return sums

    def _after(self, state: AttentionState, steps: int) -> AttentionState:
        return state

    def step(self, query: Array, prepared: Any, state: AttentionState) -> tuple[Array, Array | None, AttentionState]:
        run = self._run(self._query(query, prepared, state)[:, None], prepared, state)
        return run["context"][:, 0], run["weights"][:, 0], self._after(state, 1)

    def forward(
        self, queries: Array, prepared: Any, *, state: AttentionState | None = None, return_weights: bool = False
    ) -> Array | AttentionOutput:
        state = self.start(prepared) if state is None else state
        run = self._run(self._queries(queries, prepared, state), prepared, state)
        context: Array = run["context"]
        return AttentionOutput(context, run["weights"]) if check_flag("return_weights", return_weights) else context

    def step_vjp(
        self, query: Array, prepared: Any, state: AttentionState
    ) -> tuple[Array, Array, AttentionState, StepBackward]:
        query = self._query(query, prepared, state)[:, None]
        check_whole(prepared)
        run, step = self._run(query, prepared, state), prepared.count()

        def backward(
            d_context: Array, d_weights: Array | None, d_state: AttentionState | None
        ) -> tuple[Array, AttentionState | None]:
            given = None if d_weights is None else d_weights[:, None]
            return self._back(run, prepared, d_context[:, None], given, step)[:, 0], None

        context, weights, after = run["context"][:, 0], run["weights"][:, 0], self._after(state, 1)
        return context, weights, after, StepBackward(backward, context, weights, after)

    def vjp(
        self, queries: Array, prepared: Any, *, state: AttentionState | None = None, return_weights: bool = False
    ) -> tuple[Array | AttentionOutput, Callable[..., tuple[Array, MemoryGradient]]]:
        queries = self._queries(queries, prepared, state)
        check_whole(prepared)
        prepared = prepared.fresh()
        run = self._run(queries, prepared, self.start(prepared) if state is None else state)
        context: Array = run["context"]
        return_weights = check_flag("return_weights", return_weights)
        output = AttentionOutput(context, run["weights"]) if return_weights else context

        def backward(d_context: Array | None = None, d_weights: Array | None = None) -> tuple[Array, MemoryGradient]:
            d_context, d_weights = check_cotangents(output, d_context, d_weights)
            d_queries = self._back(run, prepared, d_context, d_weights)
            return d_queries, self.finish(prepared)

        return output, backward

    def finish(self, prepared: Any) -> MemoryGradient:
        tape, sums = self._take(prepared)
        d_values = np.zeros(prepared.summed.shape, self.dtype)
        d_memory = np.zeros_like(prepared.memory)
        if tape:
            whole = {name: np.concatenate([step[name] for step in tape], axis=1) for name in tape[0]}
            sum_values(whole["weights"], whole["d_context"], d_values)
            self.align._gather(whole["queries"], whole["d_projected"])
            self._gather(whole)
            d_memory = self.align._key_vjp(prepared.memory, prepared.key, sums["key"])
            if "v" in sums:
                self.align._vector_vjp(linear.row_sum(sums["v"]))
        found: MemoryGradient = prepared.gradient(d_memory, d_values)
        return found
