"""Multi-head attention with an additive score for each head."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastattn._arrays import Array
from fastattn.layers import Linear
from fastattn.scores import Additive
from fastattn.scores.additive import Activation
from fastattn.variants.heads.projections import ToHeads
from fastattn.variants.protocol.checks import NormalizerLike, check_head_width, check_size, check_summed
from fastattn.variants.protocol.prepared import check_whole
from fastattn.variants.protocol.tape import Tape
from fastattn.variants.protocol.variant import AttentionState, Backward, MemoryGradient, Prepared, StepBackward, Variant
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
        activation: Activation = "tanh",
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
        self.value = ToHeads(self.value_width, self.head_width, value=heads, **more)
        self.output = Linear(heads * self.head_width, self.output_width, **more)

    def extend(self, prepared: Prepared) -> AdditiveHeadsPrepared:
        made = AdditiveHeadsPrepared(prepared.memory, prepared.values, prepared.lengths, prepared.mask)
        check_summed(made, self.value_width)
        (values,) = self.value.heads(made.summed)
        made.heads = tuple(
            head.prepare(made.memory, made.lengths, made.mask, values=values[:, i]) for i, head in enumerate(self.heads)
        )
        return made

    def step(
        self, query: Array, prepared: AdditiveHeadsPrepared, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState]:  # fmt: skip
        query = self.check_query(query, prepared, state)
        found = [head.step(query, own, AttentionState()) for head, own in zip(self.heads, prepared.heads)]
        contexts, weights = self._side_by_side(found)
        return self.output.forward(contexts), weights, state

    def _side_by_side(self, found: list[Any]) -> tuple[Array, Any]:
        """Return the heads' contexts (..., H d), and their weights (B, H, ...), or None."""
        contexts, weights = zip(*(one[:2] for one in found))
        return np.concatenate(contexts, axis=-1), None if weights[0] is None else np.stack(weights, axis=1)

    def _of_head(self, i: int, d_contexts: Array, d_weights: Array | None) -> tuple[Array, Array | None]:
        """Return the gradients of one head's context and weights."""
        d_context = np.ascontiguousarray(d_contexts[..., i * self.head_width : (i + 1) * self.head_width])
        return d_context, None if d_weights is None else np.ascontiguousarray(d_weights[:, i])

    def attend(
        self, queries: Array, prepared: AdditiveHeadsPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None]:
        both = zip(self.heads, prepared.heads)
        contexts, weights = self._side_by_side([head.attend(queries, own, None, return_weights) for head, own in both])
        return self.output.forward(contexts), weights

    def attend_vjp(
        self, queries: Array, prepared: AdditiveHeadsPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None, Backward]:
        both = zip(self.heads, prepared.heads)
        *found, backs = zip(*(head.attend_vjp(queries, own, None, return_weights) for head, own in both))
        contexts, weights = self._side_by_side(list(zip(*found)))
        context, output_back = self.output.vjp(contexts)

        def backward(d_context: Array, d_weights: Array | None) -> tuple[Array, MemoryGradient]:
            d_queries, d_contexts, gradients = np.zeros_like(queries), output_back(d_context), []
            for i, head_back in enumerate(backs):
                d_own, d_memory = head_back(*self._of_head(i, d_contexts, d_weights))
                d_queries += d_own
                gradients.append(d_memory)
            return d_queries, self._memory_vjp(prepared, gradients)

        return context, weights, backward

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
        contexts, weights = self._side_by_side(found)

        def backward(
            d_context: Array, d_weights: Array | None, d_state: AttentionState | None
        ) -> tuple[Array, AttentionState | None]:
            prepared.tape.append(JoinedStep(contexts, d_context))
            d_query, d_contexts = np.zeros_like(query), self.output.w.packed().matmul_transposed(d_context)
            for i, (*_, head_back) in enumerate(found):
                d_query += head_back(*self._of_head(i, d_contexts, d_weights))[0]
            return d_query, d_state

        context = self.output.forward(contexts)
        return context, weights, state, StepBackward(backward, context, weights, state)

    def finish(self, prepared: AdditiveHeadsPrepared) -> MemoryGradient:
        tape, _ = self.take(prepared)
        gradients = [head.finish(own) for head, own in zip(self.heads, prepared.heads)]
        if tape:
            steps = tape.joined()
            self.output.backward(steps.contexts)(steps.d_context)
        return self._memory_vjp(prepared, gradients)
