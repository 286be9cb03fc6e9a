"""Diagonal bilinear attention, a plugin of fastattn."""

import numpy as np

from fastattn import linear
from fastattn.plugin import ScoreRecord
from fastattn.scores import Score
from fastattn.scores.base import parameter

__all__ = ["Diagonal", "fastattn_scores"]


class Diagonal(Score):
    """``score_ij = sum_c q_ic w_c k_jc`` (Yang et al. 2015, arXiv:1412.6575, equation 2, of relations)."""

    name = "diagonal"

    def __init__(self, w, *, softcap=None):
        super().__init__(softcap=softcap)
        self.parameters = {"w": parameter("w", w, (None,), "one number for each channel, of shape (D,)")}

    @classmethod
    def drawn(cls, query_width, key_width, *, rng, dtype=np.float32):
        """Where training begins."""
        return cls(rng.uniform(0.5, 1.5, key_width).astype(dtype))

    def project_key(self, key):
        """The kernel's key, of which it takes the dot product with the query."""
        return key * self.parameters["w"]

    def key_vjp(self, key, d_projected):
        """The gradient of a key from that of the kernel's."""
        return d_projected * self.parameters["w"]

    def key_gradients(self, key, d_projected):
        """The gradient of w."""
        read = np.where(d_projected == 0, 0, key)  # what was not read may be NaN
        return {"w": linear.row_sum(d_projected * read)}


def formula(parameters, query, key, scale):
    """The same in plain NumPy, for the conformance kit."""
    return np.einsum("bqc,c,bkc->bqk", query, parameters["w"], key)


def fastattn_scores():
    """Tell fastattn what is here."""
    paper = "Yang et al. 2015 (arXiv:1412.6575), eq. 2"
    return [ScoreRecord("diagonal", Diagonal, "sum_c q_c w_c k_c", paper, reference=formula)]
