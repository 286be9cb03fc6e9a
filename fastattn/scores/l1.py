"""Scores by the Manhattan distance."""

import math

import numpy as np

from fastattn._kernels import core
from fastattn.scores.base import Array, ByName, Score

__all__ = ["L1"]


class L1(Score):
    """``score_ij = -scale |q_i - k_j|_1``: weights of softmax are those of a Laplacian kernel.

    `scale` is 1 / sqrt(D) by default.

    Parameters
    ----------
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.

    Notes
    -----
    It has a kernel of its own: no product of query and key makes it. Work: three operations for a feature of a pair,
    where a product takes one. Where a feature of query and key is equal the score has a kink, and its gradient is
    taken as 0. A pair whose distance is beyond the largest number has the weight 0.

    References
    ----------
    Rahimi, Recht 2007 (Random Features for Large-Scale Kernel Machines), figure 1, the Laplacian kernel.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q = np.eye(2, 3, dtype=np.float32)
    >>> fastattn.attention(q, q, q, score="l1").shape
    (2, 3)
    """

    name = "l1"
    summary = "-|q - k|_1 / sqrt(D)"
    paper = "Rahimi, Recht 2007 (Random Features for Large-Scale Kernel Machines), figure 1"
    kernel = core.SCORES["l1"]

    def default_scale(self, width: int) -> float:
        return 1 / math.sqrt(max(width, 1))

    @staticmethod
    def formula(parameters: ByName, query: Array, key: Array, scale: float) -> Array:
        return -scale * np.abs(query[..., :, None, :] - key[..., None, :, :]).sum(-1)

    @staticmethod
    def formula_vjp(
        parameters: ByName, query: Array, key: Array, scale: float, d_scores: Array
    ) -> tuple[Array, Array, ByName]:
        d = d_scores[..., None]
        toward = np.where(d == 0, 0, scale * d * np.sign(query[..., :, None, :] - key[..., None, :, :]))
        return -toward.sum(-2), toward.sum(-3), {}
