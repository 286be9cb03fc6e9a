"""Multi-head attention with an additive score for each head."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastattn.attention import AttentionOutput
from fastattn.layers import Linear
from fastattn.scores import Additive
from fastattn.variants.protocol.backward import check_cotangents
from fastattn.variants.protocol.checks import (
    NormalizerLike,
    check_head_width,
    check_size,
    check_summed,
    check_whole,
)
from fastattn.variants.protocol.tape import Tape
from fastattn.variants.protocol.variant import Array, AttentionState, MemoryGradient, Prepared, StepBackward, Variant
from fastattn.variants.soft import Soft, SoftPrepared

__all__ = ["AdditiveMultiHead"]


@dataclass(slots=True)
class JoinedStep:
    """What a backward step leaves for `finish`: the heads' contexts (B, H d), and the gradient of all together."""

    contexts: Array
    d_context: Array


class AdditiveHeadsPrepared(Prepared):
    """A memory prepared for each head, with the values that the head sums.

    Attributes
    ----------
    heads : tuple of Prepared
    """

    heads: tuple[SoftPrepared, ...]
    tape: Tape[JoinedStep]


class AdditiveMultiHead(Variant[AdditiveHeadsPrepared]):
    """``[head_1; ...; head_H] W_o``, where head i weights ``m W_v_i`` by a softmax of its additive score.

    ::

        score_ij = v_i . act(x W_q_i + m_j W_m_i + b_i)

    the heads of Vaswani et al. 2017 (section 3.2.2) with the score of Bahdanau, Cho, Bengio 2015 (appendix A.1.2).

    Parameters
    ----------
    query_width, memory_width : int
    heads : int
        H.
    width : int
        Da, of the layer between of each head.
    head_width : int, optional
        Of values of a head; by default query_width / H.
    value_width : int, optional
        Of the `values` of `prepare`, if it gets any; by default memory_width.
    output_width : int, optional
        Dv; by default query_width.
    activation : {"tanh", "sigmoid", "relu"}
    bias : bool
        Whether there are biases b_i, and of values and output.
    normalizer : str, mapping or Normalizer
        As of `Soft`, the same for all heads.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    heads : list of Soft
        Each of an `Additive` score.
    value, output : Linear
        All heads side by side: W_v (Dm, H d), W_o (H d, Dv).

    Notes
    -----
    Weights are (B, H, Tq, S), or (B, H, S) of a step. A query without any key gets the output's bias. Work: that of H
    `additive` variants, one after the other, and the two projections. ESPnet's `AttMultiHeadAdd` is of this form.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("additive_multihead", query_width=8, memory_width=6, heads=2, width=5,
    ...                           rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((2, 5, 6), np.float32))
    >>> variant.forward(np.ones((2, 3, 8), np.float32), prepared, return_weights=True).weights.shape
    (2, 2, 3, 5)
    """

    name = "additive_multihead"
    sums_values = False

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        heads: int,
        width: int,
        head_width: int | None = None,
        value_width: int | None = None,
        output_width: int | None = None,
        activation: str = "tanh",
        bias: bool = True,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype)
        check_size("heads", heads)
        self.head_width = check_head_width(query_width, heads, head_width)
        self.value_width = memory_width if value_width is None else check_size("value_width", value_width)
        self.output_width = query_width if output_width is None else check_size("output_width", output_width)
        more: Any = {"bias": bias, "rng": rng, "dtype": dtype}
        self.heads = [
            Soft(
                Additive.drawn(query_width, memory_width, width=width, activation=activation, **more),
                query_width=query_width, memory_width=memory_width, normalizer=normalizer, dtype=dtype,
            )
            for _ in range(heads)
        ]  # fmt: skip
        self.value = Linear(self.value_width, heads * self.head_width, **more)
        self.output = Linear(heads * self.head_width, self.output_width, **more)

    def extend(self, prepared: Prepared) -> AdditiveHeadsPrepared:
        made = AdditiveHeadsPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        check_summed(made, self.value_width)
        values = self._split(self.value.forward(made.summed))
        made.heads = tuple(
            head.prepare(made.memory, made.lengths, made.mask, values=own) for head, own in zip(self.heads, values)
        )
        return made

    def _split(self, x: Array) -> list[Array]:
        """Return the parts (..., d) of x (..., H d)."""
        return [x[..., i * self.head_width : (i + 1) * self.head_width] for i in range(len(self.heads))]

    def step(
        self, query: Array, prepared: AdditiveHeadsPrepared, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState]:  # fmt: skip
        query = self.check_query(query, prepared, state)
        found = [head.step(query, own, AttentionState()) for head, own in zip(self.heads, prepared.heads)]
        context = self.output.forward(np.concatenate([context for context, _, _ in found], axis=-1))
        return context, np.stack([np.asarray(weights) for _, weights, _ in found], axis=1), state

    def forward(
        self,
        queries: Array,
        prepared: AdditiveHeadsPrepared,
        *,
        state: AttentionState | None = None,
        return_weights: bool = False,
    ) -> Array | AttentionOutput:
        queries = self.check_queries(queries, prepared, state)
        found = [
            head.forward(queries, own, return_weights=return_weights) for head, own in zip(self.heads, prepared.heads)
        ]
        return self._joined(found, self.output.forward(self._contexts(found, return_weights)), return_weights)

    def _contexts(self, found: list[Any], return_weights: bool) -> Array:
        return np.concatenate([one.context if return_weights else one for one in found], axis=-1)

    def _joined(self, found: list[Any], context: Array, return_weights: bool) -> Array | AttentionOutput:
        if not return_weights:
            return context
        return AttentionOutput(context, np.stack([one.weights for one in found], axis=1))

    def vjp(
        self,
        queries: Array,
        prepared: AdditiveHeadsPrepared,
        *,
        state: AttentionState | None = None,
        return_weights: bool = False,
    ) -> tuple[Array | AttentionOutput, Callable[..., tuple[Array, MemoryGradient]]]:
        queries = self.check_queries(queries, prepared, state)
        check_whole(prepared)
        both = [head.vjp(queries, own, return_weights=return_weights) for head, own in zip(self.heads, prepared.heads)]
        found = [output for output, _ in both]
        context, output_back = self.output.vjp(self._contexts(found, return_weights))
        output = self._joined(found, context, return_weights)

        def backward(d_context: Array | None = None, d_weights: Array | None = None) -> tuple[Array, MemoryGradient]:
            d_context, d_weights = check_cotangents(output, d_context, d_weights)
            d_queries, gradients = np.zeros_like(queries), []
            for i, d_head in enumerate(self._split(output_back(d_context))):
                d_own, d_memory = both[i][1](np.ascontiguousarray(d_head), self._weights(d_weights, i))
                d_queries += d_own
                gradients.append(d_memory)
            return d_queries, self._memory_vjp(prepared, gradients)

        return output, backward

    def _weights(self, d_weights: Array | None, head: int) -> Array | None:
        return None if d_weights is None else np.ascontiguousarray(d_weights[:, head])

    def _memory_vjp(self, prepared: Prepared, gradients: list[Any]) -> MemoryGradient:
        d_memory = gradients[0][0]
        for other, _ in gradients[1:]:
            d_memory += other
        d_values = self.value.backward(prepared.summed)(np.concatenate([own for _, own in gradients], axis=-1))
        return prepared.gradient(d_memory, d_values)

    def step_vjp(
        self, query: Array, prepared: AdditiveHeadsPrepared, state: AttentionState
    ) -> tuple[Array, Array, AttentionState, StepBackward]:
        query = self.check_query(query, prepared, state)
        check_whole(prepared)
        prepared.count()
        found = [head.step_vjp(query, own, AttentionState()) for head, own in zip(self.heads, prepared.heads)]
        contexts = np.concatenate([one[0] for one in found], axis=-1)

        def backward(
            d_context: Array, d_weights: Array | None, d_state: AttentionState | None
        ) -> tuple[Array, AttentionState | None]:
            prepared.tape.append(JoinedStep(contexts, d_context))
            d_query = np.zeros_like(query)
            for i, d_head in enumerate(self._split(self.output.w.packed().matmul_transposed(d_context))):
                d_query += found[i][3](np.ascontiguousarray(d_head), self._weights(d_weights, i))[0]
            return d_query, d_state

        weights = np.stack([np.asarray(one[1]) for one in found], axis=1)
        context = self.output.forward(contexts)
        return context, weights, state, StepBackward(backward, context, weights, state)

    def finish(self, prepared: AdditiveHeadsPrepared) -> MemoryGradient:
        tape, _ = self.take(prepared)
        gradients = [head.finish(own) for head, own in zip(self.heads, prepared.heads)]
        if tape:
            steps = tape.joined()
            self.output.backward(steps.contexts)(steps.d_context)
        return self._memory_vjp(prepared, gradients)
