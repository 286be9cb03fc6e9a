"""Multi-head attention over a memory, also with fewer key heads than query heads."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastattn import normalizers
from fastattn._kernels import core
from fastattn.attention import AttentionOutput, Memory, prepare
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.layers import Linear
from fastattn.positions import Positions, attend, attend_vjp, check_window, visible
from fastattn.positions import create as create_positions
from fastattn.scores.base import KERNEL_DOT
from fastattn.variants import loading
from fastattn.variants.protocol.backward import check_cotangents
from fastattn.variants.protocol.checks import (
    NormalizerLike,
    check_head_width,
    check_size,
    check_summed,
    check_whole,
)
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.tape import Tape
from fastattn.variants.protocol.variant import Array, AttentionState, MemoryGradient, Prepared, StepBackward, Variant

__all__ = ["HeadsState", "MultiHead", "heads_of", "joined"]


def heads_of(x: Array, heads: int) -> Array:
    """Return (B, T, H d) as (B, H, T, d), in place."""
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(0, 2, 1, 3)


def joined(x: Array) -> Array:
    """Return (B, H, T, d) as (B, T, H d)."""
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


@dataclass(frozen=True)
class HeadsState(AttentionState):
    """The position of the next query."""

    position: int


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
        wide, narrow = heads * self.head_width, self.key_heads * self.head_width
        more: Any = {"bias": bias, "rng": rng, "dtype": dtype}
        self.query = Linear(query_width, wide, **more)
        self.key = Linear(memory_width, narrow, **more)
        self.value = Linear(self.value_width, narrow, **more)
        self.output = Linear(wide, self.output_width, **more)
        self.window, self.sinks = check_window(window, sinks)
        self.normalizer = normalizers.read(normalizer)
        self.positions = create_positions(
            positions, width=query_width, heads=heads, head_width=self.head_width, rng=rng, dtype=dtype,
            bidirectional=self.bidirectional,
        )  # fmt: skip
        if self.positions.adds and query_width != memory_width:
            hint = "the same vectors are added to queries and memory."
            raise ShapeError(describe("memory_width", f"{query_width}, that of queries", memory_width, hint))
        self.positioned = self.window is not None or self.positions.name != "none"
        if self.positioned:
            self.states = (HeadsState,)

    def start(self, prepared: HeadsPrepared) -> AttentionState:
        check_prepared(prepared, self)
        return HeadsState(0, shape=prepared.shape) if self.positioned else AttentionState(shape=prepared.shape)

    def _first(self, state: Any) -> int:
        """Return the position of the first query after a state."""
        return state.position if self.positioned and state is not None else 0

    def _after(self, state: AttentionState, first: int, steps: int) -> AttentionState:
        return HeadsState(first + steps, shape=state.shape) if self.positioned else state

    def extend(self, prepared: Prepared) -> HeadsPrepared:
        made = HeadsPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        check_summed(made, self.value_width)
        made.placed = self.positions.add(made.memory)
        # A copy, head by head, so that heads of a sample are samples for the backward pass of a step.
        key = self.positions.turn(heads_of(self.key.forward(made.placed), self.key_heads))
        made.key = np.ascontiguousarray(key)
        made.value = np.ascontiguousarray(heads_of(self.value.forward(self._summed(made)), self.key_heads))
        made.attended = prepare(made.key, made.value, key_lengths=made.lengths, mask=self._mask(made))
        return made

    def _summed(self, prepared: HeadsPrepared) -> Array:
        placed: Array = prepared.placed if prepared.values is None else prepared.values
        return placed

    def _mask(self, prepared: Prepared) -> Array | None:
        return None if prepared.mask is None else prepared.mask[:, None, None]

    def _query_heads(self, queries: Array, first: int) -> Array:
        """Return queries (B, T, Dq) projected and turned, (B, H, T, d)."""
        projected = self.query.forward(self.positions.add(queries, first))
        return self.positions.turn(heads_of(projected, self.heads), first)

    def _options(self, first: int, queries: int, keys: int) -> dict[str, Any]:
        """Return the options of attention that depend on positions."""
        options: dict[str, Any] = {} if self.normalizer.name == "softmax" else {"normalizer": self.normalizer}
        if self.window is not None:
            options["mask"] = visible(first, queries, keys, self.window, self.sinks)
        return options

    def step(
        self, query: Array, prepared: HeadsPrepared, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState]:  # fmt: skip
        query, first = self.check_query(query, prepared, state), self._first(state)
        heads, weights = self._attend(self._query_heads(query[:, None], first), prepared, first, True)
        return self.output.forward(joined(heads)[:, 0]), weights[:, :, 0], self._after(state, first, 1)

    def _attend(self, query: Array, prepared: HeadsPrepared, first: int, return_weights: bool) -> tuple[Array, Any]:
        options = self._options(first, query.shape[2], prepared.keys)
        return attend(prepared.attended, query, self.positions, first, return_weights=return_weights, **options)

    def forward(
        self,
        queries: Array,
        prepared: HeadsPrepared,
        *,
        state: AttentionState | None = None,
        return_weights: bool = False,
    ) -> Array | AttentionOutput:
        queries, first = self.check_queries(queries, prepared, state), self._first(state)
        heads, weights = self._attend(self._query_heads(queries, first), prepared, first, return_weights)
        context = self.output.forward(joined(heads))
        return AttentionOutput(context, weights) if return_weights else context

    def vjp(
        self,
        queries: Array,
        prepared: HeadsPrepared,
        *,
        state: AttentionState | None = None,
        return_weights: bool = False,
    ) -> tuple[Array | AttentionOutput, Callable[..., tuple[Array, MemoryGradient]]]:
        queries, first = self.check_queries(queries, prepared, state), self._first(state)
        check_whole(prepared)
        positions = self.positions
        projected, query_back = self.query.vjp(positions.add(queries, first))
        turned = positions.turn(heads_of(projected, self.heads), first)
        heads, weights, attention_back = self._attention_vjp(prepared, turned, first, return_weights)
        context, output_back = self.output.vjp(joined(heads))
        output = AttentionOutput(context, weights) if return_weights else context

        def backward(d_context: Array | None = None, d_weights: Array | None = None) -> tuple[Array, MemoryGradient]:
            d_context, d_weights = check_cotangents(output, d_context, d_weights)
            gradients = attention_back(heads_of(output_back(d_context), self.heads), d_weights)
            d_queries = query_back(joined(positions.turn_vjp(gradients.query, first)))
            positions.add_vjp(d_queries, first)
            return d_queries, self._memory_vjp(prepared, gradients)

        return output, backward

    def _attention_vjp(self, prepared: HeadsPrepared, query: Array, first: int, return_weights: bool) -> Any:
        options = self._options(first, query.shape[2], prepared.keys)
        own = self._mask(prepared)
        if own is not None:
            options["mask"] = own & options["mask"] if "mask" in options else own
        return attend_vjp(
            query, prepared.key, prepared.value, self.positions, first, key_lengths=prepared.lengths,
            return_weights=return_weights, **options,
        )  # fmt: skip

    def _memory_vjp(self, prepared: HeadsPrepared, gradients: Any) -> MemoryGradient:
        d_key = self.positions.turn_vjp(gradients.key)
        d_memory = self.key.vjp(prepared.placed)[1](joined(d_key))
        d_values = self.value.vjp(self._summed(prepared))[1](joined(gradients.value))
        if prepared.values is None:
            d_memory = d_memory + d_values
        self.positions.add_vjp(d_memory)
        return d_memory if prepared.values is None else (d_memory, d_values)

    def step_vjp(
        self, query: Array, prepared: HeadsPrepared, state: AttentionState
    ) -> tuple[Array, Array, AttentionState, StepBackward]:
        query, first = self.check_query(query, prepared, state), self._first(state)
        check_whole(prepared)
        prepared.count()
        placed = self.positions.add(query[:, None], first)
        turned = self.positions.turn(heads_of(self.query.forward(placed), self.heads), first)
        context, found = self._attend(turned, prepared, first, True)
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
        self,
        prepared: HeadsPrepared,
        first: int,
        projected: Array,
        weights: Array,
        d_heads: Array,
        d_weights: Array | None,
    ) -> Array:
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
        return d_projected.reshape(batch, -1)

    def finish(self, prepared: HeadsPrepared) -> MemoryGradient:
        tape, _ = self.take(prepared)
        if not tape:
            nothing = np.zeros_like(prepared.memory)
            return nothing if prepared.values is None else (nothing, np.zeros_like(prepared.values))
        steps = tape.joined()
        d_weights = None if steps.d_weights is None else steps.d_weights.swapaxes(1, 2)
        self.output.vjp(steps.heads)[1](steps.d_context)
        self.query.vjp(steps.query)[1](steps.d_projected)
        query, d_heads = (heads_of(x, self.heads) for x in (steps.projected, steps.d_heads))
        d_keys_values = None
        for part, first in self._runs(tape):
            self.positions.add_vjp(steps.d_query[:, part], first)
            _, _, attention_back = self._attention_vjp(prepared, query[:, :, part], first, d_weights is not None)
            d_own = None if d_weights is None else d_weights[:, :, part]
            gradients = attention_back(d_heads[:, :, part], d_own)
            if d_keys_values is not None:
                gradients = gradients._replace(
                    key=gradients.key + d_keys_values.key, value=gradients.value + d_keys_values.value
                )
            d_keys_values = gradients
        return self._memory_vjp(prepared, d_keys_values)

    def _runs(self, tape: Tape[HeadsStep]) -> list[tuple[slice, int]]:
        """Return slices of steps that attention takes together, and the position of their first query.

        Steps went back in reverse, so that a run is a slice of step -1 of positions that fall by one.
        """
        if not self.positioned:
            return [(slice(None), 0)]
        runs, end = [], 0
        for number in range(1, len(tape) + 1):
            if number == len(tape) or tape[number].first != tape[number - 1].first - 1:
                runs.append((slice(number - 1, end - 1 if end else None, -1), tape[number - 1].first))
                end = number
        return runs

    def load_torch(self, state: Any) -> None:
        """Take the parameters of a ``torch.nn.MultiheadAttention``.

        Parameters
        ----------
        state : mapping of str to array
            Its ``state_dict()``, with ``in_proj_weight`` or ``q_proj_weight``, ``k_proj_weight``, ``v_proj_weight``,
            ``out_proj.weight``, and the biases ``in_proj_bias`` and ``out_proj.bias``; anything that NumPy takes.
        """
        loading.load_torch(self, state)

    def load_keras(self, weights: Any) -> None:
        """Take the parameters of a Keras `MultiHeadAttention` or `GroupQueryAttention`.

        Parameters
        ----------
        weights : sequence of array
            Its ``get_weights()``: kernels (D, H, d), each followed by its bias (H, d), of query, key, value, and of the
            output (H, d, D) and (D,).
        """
        loading.load_keras(self, weights)
