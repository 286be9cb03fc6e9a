"""Scores that are dot products, plain and scaled."""

import math

from fastattn.scores.base import Array, ByName, Score

__all__ = ["Dot", "ScaledDot"]


def products(parameters: ByName, query: Array, key: Array, scale: float) -> Array:
    """The formula of both."""
    return scale * (query @ key.swapaxes(-1, -2))


class Dot(Score):
    """``score_ij = q_i . k_j`` (Luong, Pham, Manning 2015, section 3.1, "dot").

    Parameters
    ----------
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q = np.eye(2, 3, dtype=np.float32)
    >>> fastattn.attention(q, q, q, score=fastattn.scores.Dot()).shape
    (2, 3)
    """

    name = "dot"
    summary = "q . k"
    paper = "Luong, Pham, Manning 2015 (arXiv:1508.04025), section 3.1"
    formula = staticmethod(products)


class ScaledDot(Score):
    """``score_ij = q_i . k_j / sqrt(Dk)`` (Vaswani et al. 2017, eq. 1). `scale` replaces ``1 / sqrt(Dk)``.

    Parameters
    ----------
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q = np.eye(2, 3, dtype=np.float32)
    >>> fastattn.attention(q, q, q, score=fastattn.scores.ScaledDot(softcap=30.0)).shape
    (2, 3)
    """

    name = "scaled_dot"
    summary = "q . k / sqrt(D)"
    paper = "Vaswani et al. 2017 (arXiv:1706.03762), eq. 1"
    formula = staticmethod(products)

    def default_scale(self, width: int) -> float:
        return 1 / math.sqrt(width) if width else 1.0
