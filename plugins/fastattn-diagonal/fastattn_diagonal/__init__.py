"""Diagonal bilinear attention, a plugin of fastattn."""

import numpy as np

from fastattn import linear
from fastattn.layers import Parameter
from fastattn.plugin import VariantRecord
from fastattn.variants.dot import Dot

__all__ = ["Diagonal", "fastattn_variants"]


class Diagonal(Dot):
    """``score_j = sum_c query_c w_c memory_jc`` (Yang et al. 2015, arXiv:1412.6575, equation 2, of relations)."""

    name = "diagonal"

    def __init__(self, *, query_width, memory_width, rng, dtype=np.float32):
        super().__init__(query_width=query_width, memory_width=memory_width, dtype=dtype)
        self.w = Parameter(rng.uniform(0.5, 1.5, memory_width).astype(dtype))

    def _key(self, memory):
        return memory * self.w.value

    def _key_vjp(self, memory, key, d_key):
        read = np.where(d_key == 0, 0, memory)  # what was not read may be NaN
        self.w.accumulate(linear.row_sum(d_key * read))
        return d_key * self.w.value


def formula(parameters, queries, memory, values, allowed):
    """The same in plain NumPy, for the conformance kit."""
    scores = np.einsum("btc,c,bsc->bts", queries, parameters["w"], memory)
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * allowed[:, None]
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bts,bsd->btd", weights, values), weights


def fastattn_variants():
    """Tell fastattn what is here."""
    paper = "Yang et al. 2015 (arXiv:1412.6575), eq. 2"
    return [VariantRecord("diagonal", Diagonal, "sum_c q_c w_c m_c", paper, reference=formula)]
