"""Multi-head self-attention of a decoder: every position sees itself and those before it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from fastattn.attention import Memory, prepare
from fastattn.errors import ShapeError, UnsupportedError, describe
from fastattn.positions import Positions, attend_vjp
from fastattn.variants.heads.multihead import HeadsPrepared, MultiHead
from fastattn.variants.heads.projections import heads_of, joined
from fastattn.variants.protocol.checks import NormalizerLike, check_size, check_whole
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.variant import Array, AttentionState, Backward, MemoryGradient, Prepared, StepBackward

__all__ = ["CausalSelfAttention", "CausalState"]


@dataclass(frozen=True)
class CausalState(AttentionState):
    """Keys and values of the positions so far; extending it leaves it as it is, and copies nothing."""

    cache: Memory
    steps: tuple[tuple[Array, Array], ...] = ()  # keys and values that `step_vjp` added

    def select(self, rows: Array) -> Self:
        return replace(super().select(rows), steps=())  # as of a memory, there is no backward pass


@dataclass(frozen=True)
class CausalGradient(AttentionState):
    """Gradients of the keys and values of the positions so far, (B, Hk, T, d)."""

    key: Array
    value: Array


class CausalSelfAttention(MultiHead):
    """`MultiHead` attention of positions to themselves and those before (Vaswani et al. 2017, section 3.2.3).

    The memory is what precedes the first query, often nothing, (B, 0, D): every step adds its query to it. So a step's
    weights (B, H, S + t + 1) grow, and those of all queries at once are (B, H, Tq, S + Tq), zero above the diagonal.

    Parameters
    ----------
    query_width, memory_width : int
        The same.
    heads, key_heads, head_width, output_width, bias, positions, sinks, normalizer, rng, dtype
        As of `MultiHead`.
    window : int, optional
        How many positions before its own a query sees.

    Notes
    -----
    A step projects one position and attends to the cache: 4 H (S + t) d operations. With a window alone the kernels
    skip what it hides; sinks make it a mask of Tq (S + Tq) bytes, which saves no work. The cache keeps all positions,
    and each has the number that it has in the sequence: Xiao et al. 2023 drop what the window has left, and count the
    positions that remain. Lengths and masks of the memory are not taken. In training all positions are known, and `vjp`
    is the backward pass; backward steps, `step_vjp`, compute each step again and gather the keys before it.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("causal_self_attention", query_width=8, memory_width=8, heads=2,
    ...                           rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.empty((2, 0, 8), np.float32))
    >>> variant.forward(np.ones((2, 3, 8), np.float32), prepared).shape
    (2, 3, 8)
    """

    name = "causal_self_attention"
    loops = False
    bidirectional = False

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        heads: int,
        key_heads: int | None = None,
        head_width: int | None = None,
        output_width: int | None = None,
        bias: bool = True,
        positions: str | Mapping[str, Any] | Positions | None = None,
        window: int | None = None,
        sinks: int = 0,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        if query_width != memory_width:
            hint = "positions are queries, keys and values."
            raise ShapeError(describe("memory_width", f"{query_width}, that of queries", memory_width, hint))
        super().__init__(
            query_width=query_width, memory_width=memory_width, heads=heads, key_heads=key_heads,
            head_width=head_width, output_width=output_width, bias=bias, positions=positions,
            window=None if window is None else (check_size("window", window, 0), None), sinks=sinks,
            normalizer=normalizer, rng=rng, dtype=dtype,
        )  # fmt: skip
        self.states = (CausalState,)
        self._given["causal"] = "bottom_right"
        if self.window is not None and not self.sinks:
            self._given["window"] = self.window

    def extend(self, prepared: Prepared) -> HeadsPrepared:
        if prepared.mask is not None or prepared.values is not None or (prepared.lengths != prepared.keys).any():
            hint = "pass what precedes the queries, whole."
            raise UnsupportedError(describe("memory", "no lengths, mask or values", "some", hint))
        return super().extend(prepared)

    def start(self, prepared: HeadsPrepared) -> CausalState:
        check_prepared(prepared, self)
        rows = slice(None) if prepared.rows is None else prepared.rows
        return CausalState(prepare(prepared.key[rows], prepared.value[rows]), shape=prepared.shape)

    def _advance(self, x: Array, prepared: HeadsPrepared, state: Any) -> tuple[Array, Memory, int, Any]:
        first = state.cache.shape[-1]
        placed, query = self._query_heads(x, first)
        cache = state.cache.extended(*self._own(placed, first))
        return query, cache, first, CausalState(cache, shape=state.shape)

    def _own(self, placed: Array, first: int) -> tuple[Array, Array]:
        """Return the keys and values of positions."""
        return self.key.heads(placed, self.positions, first)[0], self.value.heads(placed)[0]

    def attend_vjp(
        self, queries: Array, prepared: HeadsPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None, Backward]:
        if state is not None:
            hint = "prepare what precedes the queries as the memory."
            raise UnsupportedError(describe("state", "None: gradients reach the beginning", "a state", hint))
        before = prepared.keys
        whole = np.concatenate([prepared.memory, queries], axis=1)
        known = self._projected(Prepared(whole, None, np.full(len(whole), whole.shape[1]), None))
        context, weights, back = self._queries_vjp(queries, known, before, return_weights)

        def backward(d_context: Array, d_weights: Array | None) -> tuple[Array, MemoryGradient]:
            d_queries, gradients = back(d_context, d_weights)
            d_whole = self._placed_vjp(known, gradients.key, gradients.value)
            d_whole[:, before:] += d_queries
            self.positions.add_vjp(d_whole)
            return d_whole[:, before:], d_whole[:, :before]

        return context, weights, backward

    def step_vjp(
        self, query: Array, prepared: HeadsPrepared, state: Any
    ) -> tuple[Array, Array, CausalState, StepBackward]:  # fmt: skip
        x, positions = self.check_query(query, prepared, state)[:, None], self.positions
        check_whole(prepared)
        first = state.cache.shape[-1]
        if first != prepared.keys + len(state.steps):
            hint = "make every step with step_vjp, from start() on."
            raise UnsupportedError(describe("state", "one of step_vjp or start", "one of step", hint))
        placed, turned = self._query_heads(x, first)
        own = self._own(placed, first)
        after = CausalState(state.cache.extended(*own), (*state.steps, own), shape=state.shape)
        context, found = self._attend(turned, after.cache, first, True)
        output, output_back = self.output.vjp(joined(context)[:, 0])

        def backward(d_context: Array, d_weights: Array | None, d_state: Any) -> tuple[Array, CausalGradient]:
            keys, values = (
                np.concatenate([begun, *(step[i] for step in after.steps)], axis=2)
                for i, begun in enumerate((prepared.key, prepared.value))
            )
            options = self._options(first, 1, first + 1)
            _, _, back = attend_vjp(turned, keys, values, positions, first, return_weights=True, **options)
            given = None if d_weights is None else d_weights[:, :, None]
            gradients = back(heads_of(output_back(d_context)[:, None], self.heads), given)
            d_key, d_value = gradients.key, gradients.value
            if d_state is not None:
                d_key, d_value = d_key + d_state.key, d_value + d_state.value
            # Later steps have read this position: their gradients are all there, and it passes them on.
            d_query = self.query.heads_backward(placed, positions, first)(gradients.query)
            d_query += self.key.heads_backward(placed, positions, first)(d_key[:, :, first:])
            d_query += self.value.heads_backward(placed)(d_value[:, :, first:])
            positions.add_vjp(d_query, first)
            before = CausalGradient(d_key[:, :, :first], d_value[:, :, :first])
            if not state.steps:
                for name, gradient in (("key", before.key), ("value", before.value)):
                    prepared.sums[name] = prepared.sums.get(name, self.dtype.type(0)) + gradient
            return d_query[:, 0], before

        weights: Array = found[:, :, 0]
        gradient = np.broadcast_to(self.dtype.type(0), (len(x), self.key_heads, first + 1, self.head_width))
        return output, weights, after, StepBackward(backward, output, weights, CausalGradient(gradient, gradient))

    def finish(self, prepared: HeadsPrepared) -> MemoryGradient:
        sums = self.take(prepared)[1]
        d_memory = np.zeros_like(prepared.memory)
        if sums:
            d_memory += self._memory_vjp(prepared, sums["key"], sums["value"])
        return d_memory
