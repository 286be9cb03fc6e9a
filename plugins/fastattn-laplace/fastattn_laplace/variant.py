"""Laplace attention as a variant: what is kept between calls, and which loop is called when."""

import numpy as np

from fastattn import linear
from fastattn.errors import ShapeError, describe
from fastattn.layers import Parameter
from fastattn.variants import StepBackward, Variant
from fastattn.variants.protocol.checks import check_whole
from fastattn_laplace import loops

__all__ = ["Laplace", "formula"]


class Laplace(Variant):
    """``score_j = -sum_c |w_c (query_c - memory_jc)|`` (Kim et al. 2019, arXiv:1901.05761, Laplace attention).

    There the channels have one common scale, here each has its own, w.
    """

    name = "laplace"

    def __init__(self, *, query_width, memory_width, rng, dtype=np.float32):
        super().__init__(query_width, memory_width, dtype)
        if query_width != memory_width:
            hint = "project one of them."
            raise ShapeError(describe("memory_width", f"{query_width}, that of queries", memory_width, hint))
        self.w = Parameter((rng.uniform(0.5, 1.5, memory_width) / np.sqrt(max(memory_width, 1))).astype(dtype))

    def _attend(self, query, prepared, state):
        query = self.check_query(query, prepared, state)
        rows = np.arange(prepared.batch) if prepared.rows is None else prepared.rows
        weights = np.empty((prepared.batch, prepared.keys), self.dtype)
        context = np.empty((prepared.batch, prepared.summed.shape[-1]), self.dtype)
        summed, allowed = prepared.summed, prepared.allowed()
        loops.forward(query, prepared.memory, summed, rows, allowed, self.w.value, weights, context)
        return query, context, weights

    def step(self, query, prepared, state):
        """Attend with one query a sample."""
        return (*self._attend(query, prepared, state)[1:], state)

    def step_vjp(self, query, prepared, state):
        """Attend with one query a sample, and return the backward pass."""
        query, context, weights = self._attend(query, prepared, state)
        check_whole(prepared)
        number = prepared.count()

        def backward(d_context, d_weights, d_state):
            sums, d_query = prepared.sums.at(number, lambda: self._zeros(prepared)), np.empty(query.shape, self.dtype)
            d_weights = np.zeros_like(weights) if d_weights is None else d_weights
            loops.backward(
                query, prepared.memory, prepared.summed, prepared.allowed(), self.w.value, weights, d_context,
                d_weights, d_query, sums["memory"], sums["values"], sums["w"],
            )  # fmt: skip
            return d_query, d_state

        return context, weights, state, StepBackward(backward, context, weights, state)

    def _zeros(self, prepared):
        shapes = {"memory": prepared.memory.shape, "values": prepared.summed.shape}
        shapes["w"] = (prepared.batch, self.query_width)
        return {name: np.zeros(shape, self.dtype) for name, shape in shapes.items()}

    def finish(self, prepared):
        """Return the gradient of the memory over all steps, and add to that of w."""
        _, sums = self.take(prepared)
        sums = sums or self._zeros(prepared)
        self.w.accumulate(linear.row_sum(sums["w"]))
        return prepared.gradient(sums["memory"], sums["values"])


def formula(parameters, queries, memory, values, allowed):
    """The same in plain NumPy, for the conformance kit."""
    scores = -np.abs(parameters["w"] * (queries[:, :, None] - memory[:, None])).sum(-1)
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * allowed[:, None]
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bts,bsd->btd", weights, values), weights
