"""Additive attention whose scores depend on earlier weights: what location-sensitive attention and coverage share."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastattn import linear
from fastattn._kernels import core
from fastattn.layers import Linear, Parameter
from fastattn.scores.base import KERNEL_ADDITIVE
from fastattn.variants.protocol.checks import check_size, check_whole
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.state import per_sample
from fastattn.variants.protocol.tape import Tape
from fastattn.variants.protocol.variant import Array, AttentionState, MemoryGradient, Prepared, StepBackward, Variant

__all__ = ["Recall", "RecallState", "SummedStep", "gathered_values", "sum_values"]


@dataclass(frozen=True)
class RecallState(AttentionState):
    """What scores depend on besides the query.

    Attributes
    ----------
    history : array, shape (B, S)
        What features are made from: earlier weights, or a sum of them.
    previous : array, shape (B, S), or None
        The weights of the step before, where they are not the history but a window needs them.
    """

    history: Array = field(metadata=per_sample("S"))
    previous: Array | None = field(default=None, metadata=per_sample("S"))


@dataclass(slots=True)
class SummedStep:
    """What a backward step leaves of a weighted sum: the weights (B, S), and the gradient of the context (B, Dv)."""

    weights: Array
    d_context: Array


@dataclass(slots=True)
class RecallStep(SummedStep):
    """What a backward step leaves for `finish`: besides, the query and the gradient of what is made of it."""

    query: Array
    d_projected: Array


class RecallPrepared(Prepared):
    """A memory with its keys.

    Attributes
    ----------
    key : array, shape (B, S, Da)
    phi : array, shape (B, S)
        How much attention each position needs, where a variant has that.
    """

    key: Array
    phi: Array
    tape: Tape[RecallStep]


class Recall(Variant[RecallPrepared]):
    """``score_j = scale * v . tanh(query W_q + memory_j W_m + b + f_j U)`` with features f_j (C,) of the history.

    Notes
    -----
    A step is one kernel: features, scores, weights and context, with S Da (C + 24) operations, and back about twice
    as many; what it keeps for the backward pass is its query, history and weights. Scores differ from step to step by
    more than their query, so all queries at once are steps one after the other.
    """

    states = (RecallState,)
    scale: float = 1.0
    smoothing: bool = False
    window: int | None = None
    filters: Parameter | None = None

    def __init__(
        self, query_width: int, memory_width: int, width: int, features: int, rng: np.random.Generator, dtype: Any
    ) -> None:
        super().__init__(query_width, memory_width, dtype)
        self.width = check_size("width", width)
        self.query = Linear(query_width, width, bias=False, rng=rng, dtype=dtype)
        self.key = Linear(memory_width, width, rng=rng, dtype=dtype)
        self.v = Parameter((rng.uniform(-1, 1, width) * math.sqrt(3 / width)).astype(dtype))
        bound = math.sqrt(3 / features)
        self.u = Parameter(rng.uniform(-bound, bound, (features, width)).astype(dtype))

    def _advance(self, prepared: RecallPrepared, state: RecallState, weights: Array) -> RecallState:
        """Return the state after a step with these weights."""
        raise NotImplementedError

    def _advance_vjp(
        self, prepared: RecallPrepared, weights: Array, d_state: RecallState
    ) -> tuple[Array, Array | None]:
        """Return the gradients of the weights and of the history before from that of the state after."""
        raise NotImplementedError

    def extend(self, prepared: Prepared) -> RecallPrepared:
        made = RecallPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        made.key = self.key.forward(made.memory)
        return made

    def start(self, prepared: Prepared) -> RecallState:
        check_prepared(prepared, self)
        return RecallState(np.zeros(prepared.shape, self.dtype), shape=prepared.shape)

    def step(self, query: Array, prepared: RecallPrepared, state: Any) -> tuple[Array, Array | None, RecallState]:
        context, weights, after, _ = self._run(self.check_query(query, prepared, state), prepared, state)
        return context, weights, after

    def _run(self, query: Array, prepared: RecallPrepared, state: Any) -> tuple[Array, Array, RecallState, core.Steps]:
        projected = self.query.forward(query)
        first, last = self._range(prepared, state)
        batch, keys = prepared.batch, prepared.keys
        filters = None if self.filters is None else self.filters.value
        features = core.Features(np.ascontiguousarray(state.history), self.u.value, filters)
        call = core.Steps(
            projected[:, None], core.Keys(prepared.key, core.unit(prepared.summed), rows=prepared.rows),
            core.KernelScore(KERNEL_ADDITIVE, vector=self.v.value), self.scale, first, last, prepared.mask,
            self.smoothing, features,
        )  # fmt: skip
        context = np.empty((batch, prepared.summed.shape[-1]), self.dtype)
        weights = np.empty((batch, keys), self.dtype)
        call.forward(context, weights, weights, np.empty(batch, self.dtype))
        return context, weights, self._advance(prepared, state, weights), call

    def _range(self, prepared: RecallPrepared, state: RecallState) -> tuple[Array, Array]:
        """Return the first key of each sample, and the one behind the last."""
        lengths = prepared.lengths
        if self.window is None:
            return np.zeros_like(lengths), lengths
        weights = state.history if state.previous is None else state.previous
        sums = np.cumsum(weights, axis=-1)
        middle = (sums < sums[:, -1:] / 2).sum(axis=-1) if sums.shape[-1] else np.zeros_like(lengths)
        first = np.minimum(np.maximum(middle - self.window, 0), lengths)
        return first, np.minimum(middle + self.window + 1, lengths)

    def step_vjp(
        self, query: Array, prepared: RecallPrepared, state: Any
    ) -> tuple[Array, Array, RecallState, StepBackward]:
        query = self.check_query(query, prepared, state)
        check_whole(prepared)
        context, weights, after, call = self._run(query, prepared, state)
        step = prepared.count()

        def backward(d_context: Array, d_weights: Array | None, d_state: Any) -> tuple[Array, RecallState]:
            d_before, sums = None, prepared.sums.at(step, lambda: self._zeros(prepared))
            if d_state is not None:
                through, d_before = self._advance_vjp(prepared, weights, d_state)
                d_weights = through if d_weights is None else d_weights + through
            d_projected = np.empty((prepared.batch, self.width), self.dtype)
            d_history = np.empty(weights.shape, self.dtype)
            call.backward(
                d_context, None if d_weights is None else np.ascontiguousarray(d_weights), d_projected, d_history,
                None, sums["key"], sums["v"], sums["u"], sums.get("filters"),
            )  # fmt: skip
            prepared.tape.append(RecallStep(weights, d_context, query, d_projected))
            if d_before is not None:
                d_history += d_before
            return self.query.w.packed().matmul_transposed(d_projected), RecallState(d_history)

        return context, weights, after, StepBackward(backward, context, weights, after)

    def _zeros(self, prepared: Prepared) -> dict[str, Array]:
        sums = {"key": np.zeros((*prepared.shape, self.width), self.dtype)}
        for name, parameter in (("v", self.v), ("u", self.u), ("filters", self.filters)):
            if parameter is not None:
                sums[name] = np.zeros((prepared.batch, *parameter.value.shape), self.dtype)
        return sums

    def finish(self, prepared: RecallPrepared) -> MemoryGradient:
        tape, sums = self.take(prepared)
        sums = sums or self._zeros(prepared)
        memory = prepared.memory
        for name, parameter in (("v", self.v), ("u", self.u), ("filters", self.filters)):
            if parameter is not None:
                each = sums[name].reshape(prepared.batch, parameter.value.size)
                parameter.accumulate(linear.row_sum(each).reshape(parameter.value.shape))
        linear.weight_gradient(
            memory, sums["key"], self.key.w.gradient, sums=None if self.key.b is None else self.key.b.gradient
        )
        d_memory = self.key.w.packed().matmul_transposed(sums["key"])
        if tape:
            queries, d_projected = (np.stack([getattr(step, n) for step in tape]) for n in ("query", "d_projected"))
            linear.weight_gradient(queries, d_projected, self.query.w.gradient)
        return prepared.gradient(d_memory, gathered_values(tape, prepared))


def gathered_values(tape: Tape[Any], prepared: Prepared) -> Array:
    """Return the gradient of what contexts are sums of, over all steps."""
    d_values = np.zeros(prepared.summed.shape, prepared.summed.dtype)
    if tape:
        steps = tape.joined()
        sum_values(steps.weights, steps.d_context, d_values)
    return d_values


def sum_values(weights: Array, d_contexts: Array, d_values: Array) -> None:
    """Add ``sum_t weights_t^T d_context_t`` of every sample to (B, S, Dv), for (B, T, S) and (B, T, Dv)."""
    for b in range(len(d_values)):  # never on a matrix unit: their sizes, which decide it, have padding in them
        core.gemm_tn(core.unit(weights[b]), core.unit(d_contexts[b]), d_values[b], None, True)
