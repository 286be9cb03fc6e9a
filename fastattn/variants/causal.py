"""Multi-head self-attention of a decoder: every position sees itself and those before it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastattn.attention import AttentionOutput, attention_vjp
from fastattn.errors import ShapeError, UnsupportedError, describe
from fastattn.memory import Memory, prepare
from fastattn.variants.base import Array, AttentionState, MemoryGradient, Prepared, StepBackward
from fastattn.variants.checks import check_cotangents, check_state, check_whole
from fastattn.variants.multihead import HeadsPrepared, MultiHead, heads_of, joined

__all__ = ["CausalSelfAttention", "CausalState"]


@dataclass(frozen=True)
class CausalState(AttentionState):
    """Keys and values of the positions so far; extending it leaves it as it is, and copies nothing."""

    cache: Memory


class CausalSelfAttention(MultiHead):
    """`MultiHead` attention of positions to themselves and those before (Vaswani et al. 2017, section 3.2.3).

    The memory is what precedes the first query, often nothing, (B, 0, D): every step adds its query to it. So a step's
    weights (B, H, S + t + 1) grow, and those of all queries at once are (B, H, Tq, S + Tq), zero above the diagonal.

    Parameters
    ----------
    query_width, memory_width : int
        The same.
    heads, key_heads, head_width, output_width, bias, rng, dtype
        As of `MultiHead`.

    Notes
    -----
    A step projects one position and attends to the cache: 4 H (S + t) d operations. Lengths and masks of the memory are
    not taken. The way back is `vjp`, since in training all positions are known.

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
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        if query_width != memory_width:
            hint = "positions are queries, keys and values."
            raise ShapeError(describe("memory_width", f"{query_width}, that of queries", memory_width, hint))
        super().__init__(
            query_width=query_width, memory_width=memory_width, heads=heads, key_heads=key_heads,
            head_width=head_width, output_width=output_width, bias=bias, rng=rng, dtype=dtype,
        )  # fmt: skip

    def _prepare(self, prepared: Prepared) -> HeadsPrepared:
        if prepared.mask is not None or prepared.values is not None or (prepared.lengths != prepared.keys).any():
            hint = "pass what precedes the queries, whole."
            raise UnsupportedError(describe("memory", "no lengths, mask or values", "some", hint))
        return super()._prepare(prepared)

    def start(self, prepared: Any) -> CausalState:
        rows = slice(None) if prepared.rows is None else prepared.rows
        return CausalState(prepare(prepared.key[rows], prepared.value[rows]))

    def _extend(self, x: Array, state: Any, prepared: Prepared) -> CausalState:
        check_state(state, CausalState, prepared)
        key, value = (heads_of(layer.forward(x), self.key_heads) for layer in (self.key, self.value))
        return CausalState(state.cache.extended(key, value))

    def step(self, query: Array, prepared: Any, state: Any) -> tuple[Array, Array | None, CausalState]:
        x = self._query(query, prepared)[:, None]
        after = self._extend(x, state, prepared)
        output: Any = after.cache.attend(heads_of(self.query.forward(x), self.heads), return_weights=True)
        return self.output.forward(joined(output.context)[:, 0]), output.weights[:, :, 0], after

    def forward(
        self, queries: Array, prepared: Any, *, state: Any = None, return_weights: bool = False
    ) -> Array | AttentionOutput:
        x = self._queries(queries, prepared)
        after = self._extend(x, self.start(prepared) if state is None else state, prepared)
        query = heads_of(self.query.forward(x), self.heads)
        found: Any = after.cache.attend(query, causal="bottom_right", return_weights=return_weights)
        context = self.output.forward(joined(found.context if return_weights else found))
        return AttentionOutput(context, found.weights) if return_weights else context

    def vjp(
        self, queries: Array, prepared: Any, *, state: Any = None, return_weights: bool = False
    ) -> tuple[Array | AttentionOutput, Callable[..., tuple[Array, MemoryGradient]]]:
        x = self._queries(queries, prepared)
        check_whole(prepared)
        if state is not None:
            hint = "prepare what precedes the queries as the memory."
            raise UnsupportedError(describe("state", "None: gradients reach the beginning", "a state", hint))
        whole = np.concatenate([prepared.memory, x], axis=1)
        before = prepared.keys
        (query, query_back), (key, key_back), (value, value_back) = (
            layer.vjp(given) for layer, given in ((self.query, x), (self.key, whole), (self.value, whole))
        )
        found: Any
        found, attention_back = attention_vjp(
            heads_of(query, self.heads), heads_of(key, self.key_heads), heads_of(value, self.key_heads),
            causal="bottom_right", return_weights=return_weights,
        )  # fmt: skip
        context, output_back = self.output.vjp(joined(found.context if return_weights else found))
        output = AttentionOutput(context, found.weights) if return_weights else context

        def backward(d_context: Array | None = None, d_weights: Array | None = None) -> tuple[Array, MemoryGradient]:
            d_context, d_weights = check_cotangents(output, d_context, d_weights)
            gradients = attention_back(heads_of(output_back(d_context), self.heads), d_weights=d_weights)
            d_whole = key_back(joined(gradients.key)) + value_back(joined(gradients.value))
            return query_back(joined(gradients.query)) + d_whole[:, before:], d_whole[:, :before]

        return output, backward

    def step_vjp(
        self, query: Array, prepared: Any, state: AttentionState
    ) -> tuple[Array, Array, AttentionState, StepBackward]:
        hint = "use vjp: in training all positions are known."
        raise UnsupportedError(describe("step_vjp", "a variant whose memory does not grow", self.name, hint))
