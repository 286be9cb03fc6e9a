"""Multi-head attention over a memory, also with fewer key heads than query heads."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastattn import normalizers
from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn.attention import Gradients, Memory, prepare
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.layers import Linear
from fastattn.positions import Positions, attend, attend_vjp, check_window, visible
from fastattn.positions import create as create_positions
from fastattn.scores.base import KERNEL_DOT
from fastattn.variants.heads import loading
from fastattn.variants.heads.projections import ToHeads, heads_of, heads_vjp, joined
from fastattn.variants.protocol.checks import NormalizerLike, check_head_width, check_size, check_summed
from fastattn.variants.protocol.prepared import check_prepared, check_whole
from fastattn.variants.protocol.state import PositionState
from fastattn.variants.protocol.tape import Tape
from fastattn.variants.protocol.variant import AttentionState, Backward, MemoryGradient, Prepared, StepBackward, Variant

__all__ = ["HeadsPrepared", "MultiHead"]


@dataclass(slots=True)
class HeadsStep:
    """What a backward step leaves for `finish`: what went through the projections, and gradients of it."""

    first: int
    query: Array
    projected: Array
    heads: Array
    d_context: Array
    d_heads: Array
    d_weights: Array | None
    d_projected: Array
    d_query: Array


class HeadsPrepared(Prepared):
    """A memory whose keys and values are projected, and its keys packed.

    Attributes
    ----------
    placed : array, shape (B, S, Dm)
        The memory, and what is added to it for its positions.
    key, value : array, shape (B, Hk, S, d)
        Keys turned by their positions, where these turn them.
    attended : Memory
    """

    placed: Array
    key: Array
    value: Array
    attended: Memory
    tape: Tape[HeadsStep]

    @property
    def summed(self) -> Array:
        """What is projected to the heads' values: the values, or the placed memory."""
        return self.placed if self.values is None else self.values


class MultiHead(Variant[HeadsPrepared]):
    """``[head_1; ...; head_H] W_o``, ``head_i = attention(x W_q_i, m W_k_i, m W_v_i)`` (Vaswani et al. 2017, 3.2.2).

    Scores are scaled dot products. For self-attention the memory is the queries themselves; for a decoder's, where a
    position sees those before it, there is "causal_self_attention".

    Parameters
    ----------
    query_width, memory_width : int
    heads : int
        H.
    key_heads : int, optional
        Hk, a divisor of H: head i reads keys and values i // (H / Hk) (Ainslie et al. 2023; 1: Shazeer 2019). By
        default H.
    head_width : int, optional
        d, of queries, keys and values of a head; by default query_width / H.
    value_width : int, optional
        Of the `values` of `prepare`, if it gets any; by default memory_width.
    output_width : int, optional
        Dv; by default query_width.
    bias : bool
        Whether projections have biases; in the paper they have none, in PyTorch and Keras they have.
    positions : str, mapping or Positions, optional
        One of "alibi", "learned", "rotary", "shaw", "sinusoidal", "t5", or a mapping of its settings and its ``name``
        (`fastattn.positions`). Queries are at 0, 1, ..., a step each, and so are keys. By default attention does not
        know positions.
    window : (left, right), optional
        A query sees only so many keys before and after its position; None on a side is without limit.
    sinks : int
        With a window: the first keys, that many, are always seen (Xiao et al. 2023).
    normalizer : str, mapping or Normalizer
        "softmax", "sparsemax", "entmax15", "entmax", a mapping of the name and settings, or an object of
        `fastattn.normalizers` (Correia et al. 2019); an alpha of its own is a setting, and not trained.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    query, key, value, output : Linear
        All heads side by side: W_q (Dq, H d), W_k (Dm, Hk d), W_v (Dm, Hk d), W_o (H d, Dv).
    positions : Positions

    Notes
    -----
    Weights are (B, H, Tq, S), or (B, H, S) of a step. A query without any key gets the output's bias. Work: the
    projections, and 4 H S d operations a query. Positions cost O((Tq + S) D) or O(H (Tq + S)); a window is a mask of
    Tq S bytes here, and saves no work.
    Learned and sinusoidal positions are added to queries and memory, not to `values` of their own.
    `load_torch` and `load_keras` take the parameters of ``torch.nn.MultiheadAttention`` and of Keras'
    `MultiHeadAttention` and `GroupQueryAttention`.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("multihead", query_width=8, memory_width=6, heads=4, key_heads=2,
    ...                           rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((2, 5, 6), np.float32))
    >>> output = variant.forward(np.ones((2, 3, 8), np.float32), prepared, return_weights=True)
    >>> output.context.shape, output.weights.shape
    ((2, 3, 8), (2, 4, 3, 5))
    """

    name = "multihead"
    sums_values = False
    bidirectional = True

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        heads: int,
        key_heads: int | None = None,
        head_width: int | None = None,
        value_width: int | None = None,
        output_width: int | None = None,
        bias: bool = True,
        positions: str | Mapping[str, Any] | Positions | None = None,
        window: tuple[int | None, int | None] | None = None,
        sinks: int = 0,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype)
        self.heads = check_size("heads", heads)
        self.key_heads = heads if key_heads is None else check_size("key_heads", key_heads)
        if heads % self.key_heads:
            hint = "each key head serves as many query heads."
            raise ArgumentError(describe("key_heads", f"a divisor of {heads} heads", key_heads, hint))
        self.head_width = check_head_width(query_width, heads, head_width)
        self.value_width = memory_width if value_width is None else check_size("value_width", value_width)
        self.output_width = query_width if output_width is None else check_size("output_width", output_width)
        more: Any = {"bias": bias, "rng": rng, "dtype": dtype}
        self.query = ToHeads(query_width, self.head_width, query=heads, **more)
        self.key = ToHeads(memory_width, self.head_width, key=self.key_heads, **more)
        self.value = ToHeads(self.value_width, self.head_width, value=self.key_heads, **more)
        self.output = Linear(heads * self.head_width, self.output_width, **more)
        self.window, self.sinks = check_window(window, sinks)
        self.normalizer = normalizers.read(normalizer)
        # What every call of attention is given where it is not the default.
        self._given: dict[str, Any] = {} if self.normalizer.name == "softmax" else {"normalizer": self.normalizer}
        self.positions = create_positions(
            positions, width=query_width, heads=heads, head_width=self.head_width, rng=rng, dtype=dtype,
            bidirectional=self.bidirectional,
        )  # fmt: skip
        if self.positions.adds and query_width != memory_width:
            hint = "the same vectors are added to queries and memory."
            raise ShapeError(describe("memory_width", f"{query_width}, that of queries", memory_width, hint))
        self.positioned = self.window is not None or self.positions.name != "none"
        if self.positioned:
            self.states = (PositionState,)

    def start(self, prepared: HeadsPrepared) -> AttentionState:
        check_prepared(prepared, self)
        return PositionState(0, shape=prepared.shape) if self.positioned else AttentionState(shape=prepared.shape)

    def _first(self, state: Any) -> int:
        """Return the position of the first query after a state."""
        return state.position if self.positioned and state is not None else 0

    def _after(self, state: AttentionState, first: int, steps: int) -> AttentionState:
        return PositionState(first + steps, shape=state.shape) if self.positioned else state

    def extend(self, prepared: Prepared) -> HeadsPrepared:
        made = self._projected(prepared)
        # Copies, head by head, so that heads of a sample are samples for the backward pass of a step.
        made.key, made.value = np.ascontiguousarray(made.key), np.ascontiguousarray(made.value)
        made.attended = prepare(made.key, made.value, key_lengths=made.lengths, mask=self._mask(made))
        return made

    def _projected(self, prepared: Prepared) -> HeadsPrepared:
        made = HeadsPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        made.placed = self.positions.add(made.memory)
        check_summed(made, self.value_width)
        (made.key,) = self.key.heads(made.placed, self.positions)
        (made.value,) = self.value.heads(made.summed)
        return made

    def _mask(self, prepared: Prepared) -> Array | None:
        return None if prepared.mask is None else prepared.mask[:, None, None]

    def _options(self, first: int, queries: int, keys: int) -> dict[str, Any]:
        """Return the options of attention of queries at `first` to keys at 0."""
        if self.window is None or "window" in self._given:
            return self._given
        return {**self._given, "mask": visible(first, queries, keys, self.window, self.sinks)}

    def _query_heads(self, x: Array, first: int) -> tuple[Array, Array]:
        """Return queries x (B, T, Dq) with what is added for their positions, and their heads (B, H, T, d)."""
        placed = self.positions.add(x, first)
        return placed, self.query.heads(placed, self.positions, first)[0]

    def _attend(self, query: Array, memory: Memory, first: int, return_weights: bool) -> tuple[Array, Any]:
        options = self._options(first, query.shape[2], memory.shape[-1])
        return attend(memory, query, self.positions, first, return_weights=return_weights, **options)

    def _advance(self, x: Array, prepared: HeadsPrepared, state: Any) -> tuple[Array, Memory, int, Any]:
        """Return heads of queries, what they attend to, the position of the first, and the state after them."""
        first = self._first(state)
        return self._query_heads(x, first)[1], prepared.attended, first, self._after(state, first, x.shape[1])

    def _run(self, x: Array, prepared: HeadsPrepared, state: Any, return_weights: bool) -> tuple[Array, Any, Any]:
        query, memory, first, after = self._advance(x, prepared, state)
        heads, weights = self._attend(query, memory, first, return_weights)
        return self.output.forward(joined(heads)), weights, after

    def step(
        self, query: Array, prepared: HeadsPrepared, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState]:  # fmt: skip
        query = self.check_query(query, prepared, state)
        context, weights, after = self._run(query[:, None], prepared, state, True)
        return context[:, 0], weights[:, :, 0], after

    def attend(
        self, queries: Array, prepared: HeadsPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None]:
        return self._run(queries, prepared, state or self.start(prepared), return_weights)[:2]

    def attend_vjp(
        self, queries: Array, prepared: HeadsPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None, Backward]:
        first = self._first(state)
        context, weights, back = self._queries_vjp(queries, prepared, first, return_weights)

        def backward(d_context: Array, d_weights: Array | None) -> tuple[Array, MemoryGradient]:
            d_queries, gradients = back(d_context, d_weights)
            self.positions.add_vjp(d_queries, first)
            return d_queries, self._memory_vjp(prepared, gradients.key, gradients.value)

        return context, weights, backward

    def _queries_vjp(
        self, queries: Array, prepared: HeadsPrepared, first: int, return_weights: bool
    ) -> tuple[Array, Array | None, Callable[..., tuple[Array, Gradients]]]:
        """Return what `attend_vjp` does, but with gradients of placed queries, and of the heads of the memory."""
        placed, query = self._query_heads(queries, first)
        heads, options = (query, prepared.key, prepared.value), self._whole_options(prepared, first, queries.shape[1])
        context, weights, attention_back = heads_vjp(
            self.output, heads, self.positions, first, return_weights=return_weights, **options
        )
        query_back = self.query.heads_backward(placed, self.positions, first)

        def backward(d_context: Array, d_weights: Array | None) -> tuple[Array, Gradients]:
            gradients = attention_back(d_context, d_weights)
            return query_back(gradients.query), gradients

        return context, weights, backward

    def _whole_options(self, prepared: HeadsPrepared, first: int, queries: int) -> dict[str, Any]:
        """Return all options of attention over a memory that was not made ready for it."""
        options, own = self._options(first, queries, prepared.keys), self._mask(prepared)
        if own is not None:
            options = {**options, "mask": own & options.get("mask", True)}
        return {"key_lengths": prepared.lengths, **options}

    def _attention_vjp(self, prepared: HeadsPrepared, query: Array, first: int, return_weights: bool) -> Any:
        options = self._whole_options(prepared, first, query.shape[2])
        return attend_vjp(
            query, prepared.key, prepared.value, self.positions, first, return_weights=return_weights, **options
        )

    def _memory_vjp(self, prepared: HeadsPrepared, d_key: Array, d_value: Array) -> MemoryGradient:
        d_placed = self._placed_vjp(prepared, d_key, d_value)
        self.positions.add_vjp(d_placed if prepared.values is None else d_placed[0])
        return d_placed

    def _placed_vjp(self, prepared: HeadsPrepared, d_key: Array, d_value: Array) -> Any:
        """Return gradients of the placed memory, and of values if there are any."""
        d_memory = self.key.heads_backward(prepared.placed, self.positions)(d_key)
        return prepared.gradient(d_memory, self.value.heads_backward(prepared.summed)(d_value))

    def step_vjp(
        self, query: Array, prepared: HeadsPrepared, state: AttentionState
    ) -> tuple[Array, Array, AttentionState, StepBackward]:
        query, first = self.check_query(query, prepared, state), self._first(state)
        check_whole(prepared)
        prepared.count()
        placed, turned = self._query_heads(query[:, None], first)
        context, found = self._attend(turned, prepared.attended, first, True)
        heads, weights, projected = joined(context)[:, 0], found[:, :, 0], joined(turned)[:, 0]
        output, after = self.output.forward(heads), self._after(state, first, 1)

        def backward(
            d_context: Array, d_weights: Array | None, d_state: AttentionState | None
        ) -> tuple[Array, AttentionState | None]:
            d_heads = self.output.w.packed().matmul_transposed(d_context)
            if self.normalizer.name == "softmax":
                d_turned = self._step_back(prepared, first, projected, weights, d_heads, d_weights)
            else:
                _, _, back = self._attention_vjp(prepared, turned, first, True)
                given = None if d_weights is None else d_weights[:, :, None]
                gradients = back(heads_of(d_heads[:, None], self.heads), given, gather=False)
                d_turned = joined(gradients.query)[:, 0]
            d_projected = joined(self.positions.turn_vjp(heads_of(d_turned[:, None], self.heads), first))[:, 0]
            d_query = self.query.w.packed().matmul_transposed(d_projected)
            prepared.tape.append(
                HeadsStep(first, placed[:, 0], projected, heads, d_context, d_heads, d_weights, d_projected, d_query)
            )
            return d_query, d_state

        return output, weights, after, StepBackward(backward, output, weights, after)

    def _step_back(
        self, prepared: HeadsPrepared, first: int, projected: Array, weights: Array, d_heads: Array,
        d_weights: Array | None,
    ) -> Array:  # fmt: skip
        """Return the gradient of one projected query (B, H d); a key head of a sample counts as a sample."""
        (batch, key_heads, keys, d), each = prepared.key.shape, self.heads // self.key_heads
        grouped, content = (batch, key_heads, each), self.positions.content
        if content:
            own = self.positions.sums_vjp(heads_of(d_heads[:, None], self.heads), first, keys)
            if own is not None:
                d_weights = own[:, :, 0] if d_weights is None else d_weights + own[:, :, 0]
        d_scores = np.empty((*grouped, keys), self.dtype) if content else None
        d_projected = np.empty((*grouped, d), self.dtype)
        key, value = (x.reshape(batch * key_heads, keys, d) for x in (prepared.key, prepared.value))
        for i in range(each):
            one, d_one = (np.ascontiguousarray(x.reshape(*grouped, d)[:, :, i]) for x in (projected, d_heads))
            shares = np.ascontiguousarray(weights.reshape(*grouped, keys)[:, :, i])
            given = None if d_weights is None else np.ascontiguousarray(d_weights.reshape(*grouped, keys)[:, :, i])
            d_query, d_score = np.empty((batch * key_heads, d), self.dtype), np.empty_like(shares)
            core.query_backward(
                one.reshape(-1, d), core.Keys(key, value), core.KernelScore(KERNEL_DOT), 1 / math.sqrt(d), shares,
                d_one.reshape(-1, d), d_query, d_score, given,
            )  # fmt: skip
            d_projected[:, :, i] = d_query.reshape(batch, key_heads, d)
            if d_scores is not None:
                d_scores[:, :, i] = d_score.reshape(batch, key_heads, keys)
        if d_scores is not None:
            d_scores = d_scores.reshape(batch, self.heads, 1, keys)
            d_projected += self.positions.scores_vjp(d_scores, first).reshape(d_projected.shape)
        return d_projected.reshape(batch, math.prod(d_projected.shape[1:]))

    def finish(self, prepared: HeadsPrepared) -> MemoryGradient:
        tape, _ = self.take(prepared)
        if not tape:
            return prepared.gradient(np.zeros_like(prepared.memory), np.zeros_like(prepared.summed))
        steps = tape.joined()
        d_weights = None if steps.d_weights is None else steps.d_weights.swapaxes(1, 2)
        self.output.backward(steps.heads)(steps.d_context)
        self.query.backward(steps.query)(steps.d_projected)
        query, d_heads = (heads_of(x, self.heads) for x in (steps.projected, steps.d_heads))
        d_key: Any = 0
        d_value: Any = 0
        for part, first in tape.runs() if self.positioned else [(slice(None), 0)]:
            self.positions.add_vjp(steps.d_query[:, part], first)
            _, _, attention_back = self._attention_vjp(prepared, query[:, :, part], first, d_weights is not None)
            d_own = None if d_weights is None else d_weights[:, :, part]
            gradients = attention_back(d_heads[:, :, part], d_own)
            d_key, d_value = d_key + gradients.key, d_value + gradients.value
        return self._memory_vjp(prepared, d_key, d_value)

    load_torch, load_keras = loading.load_torch, loading.load_keras
