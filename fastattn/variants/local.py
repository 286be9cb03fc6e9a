"""Local attention: a window of the memory around one position, which steps along or is predicted."""

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fastattn import functional, linear
from fastattn._kernels import core
from fastattn.attention import AttentionOutput, kernel_vector
from fastattn.errors import ArgumentError, describe
from fastattn.layers import Linear, Parameter
from fastattn.scores.base import KERNEL_ADDITIVE, Score
from fastattn.variants.base import (
    Array,
    AttentionState,
    MemoryGradient,
    Prepared,
    StepBackward,
    Variant,
    check_cotangents,
    check_size,
    check_state,
    check_whole,
)
from fastattn.variants.luong import luong
from fastattn.variants.recall import sum_values

__all__ = ["Local", "LocalM", "LocalP", "LocalState"]


@dataclass(frozen=True)
class LocalState(AttentionState):
    """How many steps each sample has made, int64 (B,)."""

    position: Array


class LocalPrepared(Prepared):
    """A memory with its keys and the score that compares them.

    Attributes
    ----------
    key : array, shape (B, S, D)
    score : Score
    sums : dict of str to array
        Gradients that steps back add to, once there are any.
    """

    key: Array
    score: Score
    sums: dict[str, Array]

    def fresh(self) -> Self:
        other = super().fresh()
        other.sums = {}
        return other

    def select(self, rows: Array) -> Self:
        other = super().select(rows)
        other.sums = {}
        return other


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
        if score == "location":
            hint = "a window moves, so that positions in it have no weights of their own."
            raise ArgumentError(describe("score", "'dot', 'general' or 'concat'", repr(score), hint))
        self.align = luong(
            query_width=query_width, memory_width=memory_width, score=score, width=width, rng=rng, dtype=dtype
        )

    @abstractmethod
    def _positions(self, queries: Array, prepared: Prepared, state: AttentionState) -> Array:
        """Return p (B, T), float."""

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
        made.sums = {}
        return made

    def _run(self, queries: Array, prepared: Any, state: AttentionState) -> dict[str, Any]:
        """Attend with queries (B, T, Dq), and keep all that the way back needs."""
        positions = self._positions(queries, prepared, state)
        lengths = prepared.lengths[:, None]
        first = np.clip(np.ceil(positions - self.window), 0, lengths).astype(np.int64)
        last = np.clip(np.floor(positions + self.window) + 1, first, lengths).astype(np.int64)
        factor = self._factor(positions, prepared.keys)
        projected = np.ascontiguousarray(self.align._project(queries))
        call = core.Steps(
            1.0, False, projected, prepared.key, core.unit(prepared.summed), prepared.rows, first, last, prepared.mask,
            kernel_vector(prepared.score), None, None, None, factor,
        )  # fmt: skip
        context = np.empty((*queries.shape[:2], prepared.summed.shape[-1]), self.dtype)
        weights = np.empty((*queries.shape[:2], prepared.keys), self.dtype)
        normalized = weights if factor is None else np.empty_like(weights)
        call.forward(context, weights, normalized, np.empty(queries.shape[:2], self.dtype))
        return {"queries": queries, "positions": positions, "factor": factor, "projected": projected, "call": call,
                "context": context, "weights": weights}  # fmt: skip

    def _back(self, run: dict[str, Any], prepared: Any, d_context: Array, d_weights: Array | None) -> Array:
        """Return the gradient of the queries of a run, and leave the rest on the tape."""
        factor, projected = run["factor"], run["projected"]
        additive = prepared.score.kernel == KERNEL_ADDITIVE
        if not prepared.sums:
            prepared.sums["key"] = np.zeros(prepared.key.shape, self.dtype)
            if additive:
                prepared.sums["v"] = np.zeros((prepared.batch, prepared.key.shape[-1]), self.dtype)
        d_projected = np.empty_like(projected)
        d_factor = None if factor is None else np.empty_like(factor)
        d_context = np.ascontiguousarray(d_context)
        run["call"].backward(
            d_context, None if d_weights is None else np.ascontiguousarray(d_weights), d_projected, None, d_factor,
            prepared.sums["key"], prepared.sums.get("v"), None, None,
        )  # fmt: skip
        d_queries = self.align._project_vjp(run["queries"], projected, d_projected)
        left = {"queries": run["queries"], "d_projected": d_projected, "d_context": d_context,
                "weights": run["weights"]}  # fmt: skip
        if d_factor is not None:
            d_queries = d_queries + self._positions_vjp(run, prepared, d_factor)
            left |= {name: run[name] for name in ("inner", "d_inner", "d_outer")}
        prepared.tape.append(left)
        return d_queries

    def _after(self, state: AttentionState, steps: int) -> AttentionState:
        return state

    def step(self, query: Array, prepared: Any, state: AttentionState) -> tuple[Array, Array | None, AttentionState]:
        run = self._run(self._query(query, prepared)[:, None], prepared, state)
        return run["context"][:, 0], run["weights"][:, 0], self._after(state, 1)

    def forward(
        self, queries: Array, prepared: Any, *, state: AttentionState | None = None, return_weights: bool = False
    ) -> Array | AttentionOutput:
        state = self.start(prepared) if state is None else state
        run = self._run(self._queries(queries, prepared), prepared, state)
        context: Array = run["context"]
        return AttentionOutput(context, run["weights"]) if return_weights else context

    def step_vjp(
        self, query: Array, prepared: Any, state: AttentionState
    ) -> tuple[Array, Array, AttentionState, StepBackward]:
        check_whole(prepared)
        run = self._run(self._query(query, prepared)[:, None], prepared, state)

        def backward(
            d_context: Array, d_weights: Array | None = None, d_state: AttentionState | None = None
        ) -> tuple[Array, AttentionState | None]:
            given = None if d_weights is None else d_weights[:, None]
            return self._back(run, prepared, d_context[:, None], given)[:, 0], None

        return run["context"][:, 0], run["weights"][:, 0], self._after(state, 1), backward

    def vjp(
        self, queries: Array, prepared: Any, *, state: AttentionState | None = None, return_weights: bool = False
    ) -> tuple[Array | AttentionOutput, Callable[..., tuple[Array, MemoryGradient]]]:
        queries = self._queries(queries, prepared)
        check_whole(prepared)
        prepared = prepared.fresh()
        run = self._run(queries, prepared, self.start(prepared) if state is None else state)
        context: Array = run["context"]
        output = AttentionOutput(context, run["weights"]) if return_weights else context

        def backward(d_context: Array | None = None, d_weights: Array | None = None) -> tuple[Array, MemoryGradient]:
            d_context, d_weights = check_cotangents(output, d_context, d_weights)
            d_queries = self._back(run, prepared, d_context, d_weights)
            return d_queries, self.finish(prepared)

        return output, backward

    def finish(self, prepared: Any) -> MemoryGradient:
        tape, prepared.tape = prepared.tape, []
        sums, prepared.sums = prepared.sums, {}
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
        return d_memory + d_values if prepared.values is None else (d_memory, d_values)


class LocalM(Local):
    """Monotonic alignment, local-m (Luong, Pham, Manning 2015, section 3.2): p_t = t and g = 1.

    Parameters
    ----------
    query_width, memory_width : int
    window : int
        D; 10 in the paper.
    score : {"dot", "general", "concat"}
        As of `luong`.
    width : int, optional
        For "concat".
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    align : Soft
        With the parameters of the score.

    Notes
    -----
    t counts from 0. Where the window has left the memory the context is zero.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("local_m", query_width=3, memory_width=5, window=1, rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((1, 6, 5), np.float32))
    >>> variant.forward(np.zeros((1, 2, 3), np.float32), prepared, return_weights=True).weights
    array([[[0.5       , 0.5       , 0.        , 0.        , 0.        , 0.        ],
            [0.33333334, 0.33333334, 0.33333334, 0.        , 0.        , 0.        ]]], dtype=float32)
    """

    name = "local_m"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        window: int = 10,
        score: str = "general",
        width: int | None = None,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, window, score, width, rng, dtype)

    def start(self, prepared: Prepared) -> LocalState:
        return LocalState(np.zeros(prepared.batch, np.int64))

    def _positions(self, queries: Array, prepared: Prepared, state: Any) -> Array:
        check_state(state, LocalState, prepared)
        return state.position[:, None] + np.arange(queries.shape[1], dtype=np.float64)

    def _after(self, state: Any, steps: int) -> LocalState:
        return LocalState(state.position + steps)


class LocalP(Local):
    """Predictive alignment, local-p (Luong, Pham, Manning 2015, equations 9 and 10).

    ::

        p_t = S sigmoid(v_p . tanh(W_p h_t))                                    (9)
        a_t(s) = align(h_t, m_s) exp(-(s - p_t)^2 / (2 sigma^2)),  sigma = D/2  (10)

    with S the length of the sample, and align a softmax over the window. Gradients reach the position through the
    Gaussian; that of the window's edges is zero.

    Parameters
    ----------
    query_width, memory_width, window, score, width, rng, dtype
        As of `LocalM`.

    Attributes
    ----------
    align : Soft
    position : Linear
        Its w (Dq, Dq) is W_p, transposed.
    v_p : Parameter, shape (Dq, 1)

    Notes
    -----
    As in the paper weights are not normalised again, so that they sum to less than 1. s counts from 0.
    """

    name = "local_p"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        window: int = 10,
        score: str = "general",
        width: int | None = None,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, window, score, width, rng, dtype)
        self.position = Linear(query_width, query_width, bias=False, rng=rng, dtype=dtype)
        bound = math.sqrt(3 / max(query_width, 1))
        self.v_p = Parameter(rng.uniform(-bound, bound, (query_width, 1)).astype(dtype))

    def _inner(self, queries: Array) -> Array:
        return functional.tanh(self.position.forward(queries))

    def _positions(self, queries: Array, prepared: Prepared, state: AttentionState) -> Array:
        share = functional.sigmoid(self.v_p.packed().matmul(self._inner(queries))[..., 0])
        return share * prepared.lengths[:, None].astype(self.dtype)

    def _apart(self, positions: Array, keys: int) -> Array:
        return np.arange(keys, dtype=self.dtype) - positions[..., None]

    def _factor(self, positions: Array, keys: int) -> Array:
        apart = self._apart(positions, keys)
        return functional.exp(apart * apart * self.dtype.type(-2 / self.window**2))

    def _positions_vjp(self, run: dict[str, Any], prepared: Prepared, d_factor: Array) -> Array:
        positions, factor = run["positions"], run["factor"]
        # Where nothing was read d_factor is 0, and no sum of NumPy's own order is taken: padding must not matter.
        slopes = d_factor * factor * self._apart(positions, prepared.keys) * self.dtype.type(4 / self.window**2)
        d_position = np.cumsum(slopes, axis=-1)[..., -1] if prepared.keys else np.zeros_like(positions)
        lengths = np.maximum(prepared.lengths, 1)[:, None].astype(self.dtype)
        d_outer = (d_position * positions * (1 - positions / lengths))[..., None]
        inner = self._inner(run["queries"])
        d_inner = self.v_p.packed().matmul_transposed(d_outer) * (1 - inner * inner)
        run.update(inner=inner, d_inner=d_inner, d_outer=d_outer)
        return self.position.w.packed().matmul_transposed(d_inner)

    def _gather(self, run: dict[str, Array]) -> None:
        linear.weight_gradient(run["inner"], run["d_outer"], self.v_p.gradient)
        linear.weight_gradient(run["queries"], run["d_inner"], self.position.w.gradient)
