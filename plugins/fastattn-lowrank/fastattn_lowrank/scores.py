"""Low-rank bilinear scores: both sides go through a matrix of few columns, and the kernel takes their dot product."""

import numpy as np

from fastattn import functional, linear
from fastattn.errors import ShapeError, describe
from fastattn.scores import Score
from fastattn.scores.base import parameter

__all__ = ["LowRank", "LowRankTanh", "formula", "formula_tanh"]


class LowRank(Score):
    """``score_ij = (q_i a) . (k_j b)`` (Kim et al. 2017, arXiv:1610.04325, equation 4)."""

    name = "low_rank"

    def __init__(self, a, b, *, softcap=None):
        super().__init__(softcap=softcap)
        a = parameter("a", a, (None, None), "of shape (Dq, rank)")
        self.parameters = {"a": a, "b": parameter("b", b, (None, a.shape[1]), "of shape (Dk, rank), with a's rank")}

    def check(self, query, key):
        """Raise unless the widths are those of the matrices."""
        for argument, array, name in (("query", query, "a"), ("key", key, "b")):
            width = self.parameters[name].shape[0]
            if array.shape[-1] != width:
                hint = f"that is what {name} takes."
                raise ShapeError(describe(argument, f"width {width}", f"shape {array.shape}", hint))

    def query_weight(self, query_width):
        """The matrix a."""
        return self.parameters["a"]

    def project_key(self, key):
        """Keys times b."""
        return linear.matmul(key, self.parameters["b"])

    def project_vjp(self, operands, d, scale):
        """Gradients of query, key, a and b."""
        query, key = operands.saved
        a, b = self.parameters["a"], self.parameters["b"]
        named = {"a": linear.weight_gradient(query, d.query), "b": linear.weight_gradient(key, d.key)}
        return linear.matmul(d.query, a.T), linear.matmul(d.key, b.T), named


class LowRankTanh(LowRank):
    """``score_ij = tanh(q_i a) . tanh(k_j b)`` (Kim et al. 2017, arXiv:1610.04325, equation 8)."""

    name = "low_rank_tanh"

    def project_query(self, query, product=None):
        """tanh(q a)."""
        return functional.tanh(super().project_query(query, product))

    def project_key(self, key):
        """tanh(k b)."""
        return functional.tanh(super().project_key(key))

    def project_vjp(self, operands, d, scale):
        """Through tanh, whose outputs are the operands; what was not read has gradient 0 and may be NaN."""
        d_query = d.query * (1 - operands.query * operands.query)
        d_key = np.where(d.key == 0, 0, d.key * (1 - operands.key * operands.key))
        return super().project_vjp(operands, d._replace(query=d_query, key=d_key), scale)


def formula(parameters, query, key, scale):
    """The first in plain NumPy, for the conformance kit."""
    return np.einsum("bqr,bkr->bqk", query @ parameters["a"], key @ parameters["b"])


def formula_tanh(parameters, query, key, scale):
    """The second in plain NumPy, for the conformance kit."""
    return np.einsum("bqr,bkr->bqk", np.tanh(query @ parameters["a"]), np.tanh(key @ parameters["b"]))
