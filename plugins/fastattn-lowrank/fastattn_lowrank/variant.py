"""Low-rank bilinear attention as a variant: the memory's matrix acts once, the query's at every step."""

import numpy as np

from fastattn import linear
from fastattn.layers import Linear
from fastattn.variants.soft import Soft

__all__ = ["LowRank", "formula"]


class LowRank(Soft):
    """``score_j = (query A) . (memory_j B)`` (Kim et al. 2017, arXiv:1610.04325, equation 4)."""

    name = "low_rank"

    def __init__(self, *, query_width, memory_width, rank, rng, dtype=np.float32):
        super().__init__(query_width, memory_width, dtype)
        self.query = Linear(query_width, rank, bias=False, rng=rng, dtype=dtype)
        self.key = Linear(memory_width, rank, bias=False, rng=rng, dtype=dtype)

    def _key(self, memory):
        return self.key.forward(memory)

    def _key_vjp(self, memory, key, d_key):
        linear.weight_gradient(memory, d_key, self.key.w.gradient)
        return self.key.w.packed().matmul_transposed(d_key)

    def _project(self, query):
        return self.query.forward(query)

    def _project_vjp(self, query, projected, d_projected):
        return self.query.w.packed().matmul_transposed(d_projected)

    def _gather(self, queries, d_projected):
        linear.weight_gradient(queries, d_projected, self.query.w.gradient)


def formula(parameters, queries, memory, values, allowed, *, rank):
    """The same in plain NumPy, for the conformance kit."""
    scores = np.einsum("btr,bsr->bts", queries @ parameters["query.w"], memory @ parameters["key.w"])
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * allowed[:, None]
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bts,bsd->btd", weights, values), weights
