"""Attention by Cauchy kernels, a plugin of fastattn: a function of Python, compiled with its derivative."""

import numpy as np

from fastattn import pairwise_score
from fastattn.plugin import ScoreRecord
from fastattn.scores.base import parameter
from fastattn.scores.pairwise import Pairwise

__all__ = ["Cauchy", "fastattn_scores"]


@pairwise_score
def feature(q, k, w):
    """What one feature of query and key adds to their score."""
    return -np.log1p(np.square(w * (q - k)))


class Cauchy(Pairwise):
    """``score_ij = -sum_c log(1 + (w_c (q_ic - k_jc))^2)``, w learnt (Rahimi, Recht 2007, figure 1, of w = 1)."""

    name = "cauchy"

    def __init__(self, w, *, softcap=None):
        w = parameter("w", w, (None,), "one number for each feature, of shape (D,)")
        super().__init__(feature(w=w), softcap=softcap)

    @classmethod
    def drawn(cls, query_width, key_width, *, rng, dtype=np.float32):
        """Where training begins."""
        return cls(rng.uniform(0.5, 1.5, key_width).astype(dtype))


def formula(parameters, query, key, scale):
    """The same in plain NumPy, for the conformance kit."""
    return -np.log1p((parameters["w"] * (query[:, :, None] - key[:, None])) ** 2).sum(axis=-1)


def fastattn_scores():
    """Tell fastattn what is here."""
    paper = "Rahimi, Recht 2007, figure 1, Cauchy kernel"
    return [ScoreRecord("cauchy", Cauchy, "-sum_c log(1 + (w_c (q_c - k_c))^2)", paper, reference=formula)]
