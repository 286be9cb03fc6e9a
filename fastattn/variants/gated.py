"""Additive attention whose query also says how much of the context it wants."""

from typing import Any

import numpy as np

from fastattn import functional, linear
from fastattn.layers import Linear
from fastattn.scores import Additive
from fastattn.scores.additive import Activation
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.variant import Array, AttentionState, Backward, MemoryGradient, StepBackward
from fastattn.variants.soft import Soft, SoftPrepared

__all__ = ["GatedAdditive"]


class GatedAdditive(Soft):
    """Soft attention of Xu et al. 2015 (arXiv:1502.03044), section 4.2.1, with its gating scalar.

    ::

        score_j = v . act(query W_q + memory_j W_m + b),     weights = softmax(score)
        context = beta sum_j weights_j memory_j,             beta = sigmoid(query . w + b_beta)

    Parameters
    ----------
    query_width, memory_width, width, activation, bias, rng, dtype
        As of `Additive`; the query is the decoder's previous state.

    Attributes
    ----------
    trained : dict of str to Parameter
        As of `Additive`.
    gate : Linear
        f_beta: its w is (Dq, 1); its b starts at 0, so that beta starts near 1/2.

    Notes
    -----
    Weights are those before the gate, and sum to 1. A step costs Dq + Dv multiply-adds more than one of `Additive`. The
    paper trains it with `fastattn.losses.doubly_stochastic_loss`.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> sizes = {"query_width": 3, "memory_width": 5, "width": 8}
    >>> variant = fastattn.create("gated_additive", **sizes, rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((2, 4, 5), np.float32))
    >>> context, weights, state = variant.step(np.zeros((2, 3), np.float32), prepared, variant.start(prepared))
    >>> context[0], weights[0].sum()
    (array([0.5, 0.5, 0.5, 0.5, 0.5], dtype=float32), np.float32(1.0))
    """

    name = "gated_additive"
    gated = True

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        width: int,
        activation: Activation = "tanh",
        bias: bool = False,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        score = Additive.drawn(
            query_width, memory_width, width=width, activation=activation, bias=bias, rng=rng, dtype=dtype
        )
        super().__init__(score, query_width=query_width, memory_width=memory_width, dtype=dtype)
        self.gate = Linear(query_width, 1, rng=rng, dtype=dtype)

    def _beta(self, queries: Array) -> Array:
        """Return beta (..., 1)."""
        return functional.sigmoid(self.gate.forward(queries))

    def _gate_vjp(self, beta: Array, summed: Array, d_context: Array) -> tuple[Array, Array]:
        """Return the gradients of the sums and of what beta is the sigmoid of."""
        rows = np.multiply(d_context, summed).reshape(-1, summed.shape[-1])
        # The columns of the transpose are summed one element after the other, whatever their number.
        d_beta = linear.row_sum(rows.T).reshape(beta.shape)
        return d_context * beta, d_beta * beta * (1 - beta)

    def attend(
        self, queries: Array, prepared: SoftPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None]:
        summed, weights = super().attend(queries, prepared, state, return_weights)
        return summed * self._beta(queries), weights

    def attend_vjp(
        self, queries: Array, prepared: SoftPrepared, state: Any, return_weights: bool
    ) -> tuple[Array, Array | None, Backward]:
        summed, weights, soft_back = super().attend_vjp(queries, prepared, state, return_weights)
        beta = self._beta(queries)

        def backward(d_context: Array, d_weights: Array | None) -> tuple[Array, MemoryGradient]:
            d_summed, d_gate = self._gate_vjp(beta, summed, d_context)
            d_queries, d_memory = soft_back(d_summed, d_weights)
            return d_queries + self.gate.backward(queries)(d_gate), d_memory

        return summed * beta, weights, backward

    def step_vjp(
        self, query: Array, prepared: SoftPrepared, state: AttentionState
    ) -> tuple[Array, Array | None, AttentionState, StepBackward]:
        summed, weights, after, soft_back = super().step_vjp(query, prepared, state)
        query = self.check_query(query, prepared, state)
        beta = self._beta(query)
        context = summed * beta

        def backward(
            d_context: Array, d_weights: Array | None, d_state: AttentionState | None
        ) -> tuple[Array, AttentionState | None]:
            d_summed, d_gate = self._gate_vjp(beta, summed, d_context)
            d_query, d_state = soft_back(d_summed, d_weights, d_state)
            prepared.tape[-1].d_gate = d_gate
            return d_query + self.gate.w.packed().matmul_transposed(d_gate), d_state

        return context, weights, after, StepBackward(backward, context, weights, after)

    def finish(self, prepared: SoftPrepared) -> MemoryGradient:
        check_prepared(prepared, self)
        steps = prepared.tape
        if steps:
            queries, d_gate = (np.stack([getattr(step, name) for step in steps]) for name in ("query", "d_gate"))
            assert self.gate.b is not None
            linear.weight_gradient(queries, d_gate, self.gate.w.gradient, sums=self.gate.b.gradient)
        return super().finish(prepared)
