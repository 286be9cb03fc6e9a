"""Low-rank bilinear scores: both sides go through a matrix of few columns, and the kernel takes their dot product."""

import numpy as np

from fastattn import functional, linear
from fastattn.errors import ShapeError, describe
from fastattn.scores import Score
from fastattn.scores.base import parameter, uniform

__all__ = ["LowRank", "LowRankTanh", "formula", "formula_tanh"]


class LowRank(Score):
    """``score_ij = (q_i a) . (k_j b)`` (Kim et al. 2017, arXiv:1610.04325, equation 4)."""

    name = "low_rank"
    one_width = False

    def __init__(self, a, b, *, softcap=None):
        super().__init__(softcap=softcap)
        a = parameter("a", a, (None, None), "of shape (Dq, rank)")
        self.parameters = {"a": a, "b": parameter("b", b, (None, a.shape[1]), "of shape (Dk, rank), with a's rank")}

    @classmethod
    def drawn(cls, query_width, key_width, *, rank=4, rng, dtype=np.float32):
        """Where training begins."""
        return cls(*(uniform(rng, width, rank, dtype) for width in (query_width, key_width)))

    def check(self, query, key):
        """Raise unless the widths are those of the matrices."""
        for argument, array, name in (("query", query, "a"), ("key", key, "b")):
            width = self.parameters[name].shape[0]
            if array.shape[-1] != width:
                hint = f"that is what {name} takes."
                raise ShapeError(describe(argument, f"width {width}", f"shape {array.shape}", hint))

    def project_query(self, query):
        """Queries times a."""
        return self.matmul("a", query)

    def query_vjp(self, query, d_projected):
        """The gradient of the query."""
        return self.matmul_transposed("a", d_projected)

    def query_gradients(self, query, d_projected):
        """The gradient of a."""
        return {"a": linear.weight_gradient(query, d_projected)}

    def project_key(self, key):
        """Keys times b."""
        return self.matmul("b", key)

    def key_vjp(self, key, d_projected):
        """The gradient of the key."""
        return self.matmul_transposed("b", d_projected)

    def key_gradients(self, key, d_projected):
        """The gradient of b."""
        return {"b": linear.weight_gradient(key, d_projected)}


class LowRankTanh(LowRank):
    """``score_ij = tanh(q_i a) . tanh(k_j b)`` (Kim et al. 2017, arXiv:1610.04325, equation 8)."""

    name = "low_rank_tanh"

    def project_query(self, query):
        """tanh(q a)."""
        return functional.tanh(super().project_query(query))

    def query_vjp(self, query, d_projected):
        """The gradient of the query."""
        return super().query_vjp(query, through_tanh(self.project_query(query), d_projected))

    def query_gradients(self, query, d_projected):
        """The gradient of a."""
        return super().query_gradients(query, through_tanh(self.project_query(query), d_projected))

    def project_key(self, key):
        """tanh(k b)."""
        return functional.tanh(super().project_key(key))

    def key_vjp(self, key, d_projected):
        """The gradient of the key."""
        return super().key_vjp(key, through_tanh(self.project_key(key), d_projected))

    def key_gradients(self, key, d_projected):
        """The gradient of b."""
        return super().key_gradients(key, through_tanh(self.project_key(key), d_projected))


def through_tanh(y, dy):
    """The gradient of what y is the tanh of; what was not read has gradient 0 and may be NaN."""
    return np.where(dy == 0, 0, dy * (1 - y * y))


def formula(parameters, query, key, scale):
    """The first in plain NumPy, for the conformance kit."""
    return np.einsum("bqr,bkr->bqk", query @ parameters["a"], key @ parameters["b"])


def formula_tanh(parameters, query, key, scale):
    """The second in plain NumPy, for the conformance kit."""
    return np.einsum("bqr,bkr->bqk", np.tanh(query @ parameters["a"]), np.tanh(key @ parameters["b"]))
