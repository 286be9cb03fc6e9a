"""Cosine scores: dot products of unit vectors."""

import numpy as np

from fastattn._kernels import core
from fastattn.scores.base import Array, ByName, Score

__all__ = ["Cosine", "cosine_operand", "cosine_operand_vjp"]


class Cosine(Score):
    """``score_ij = q_i . k_j / (|q_i| |k_j|)`` (Graves, Wayne, Danihelka 2014, eq. 6). A zero vector scores 0.

    Its sharpness ("beta" in the paper) is the argument `scale` of `fastattn.attention`.

    Parameters
    ----------
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q = np.eye(2, 3, dtype=np.float32)
    >>> fastattn.attention(q, 7 * q, q, score="cosine", scale=5.0).shape
    (2, 3)
    """

    name = "cosine"
    summary = "q . k / (|q| |k|)"
    paper = "Graves, Wayne, Danihelka 2014 (arXiv:1410.5401), eq. 6"

    def project_query(self, query: Array) -> Array:
        return cosine_operand(query)[0]

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        return cosine_operand_vjp(*cosine_operand(query), d_projected)

    def project_key(self, key: Array) -> Array:
        return cosine_operand(key)[0]

    def key_vjp(self, key: Array, d_projected: Array) -> Array:
        return cosine_operand_vjp(*cosine_operand(key), d_projected)

    @staticmethod
    def formula(parameters: ByName, query: Array, key: Array, scale: float) -> Array:
        lengths = np.linalg.norm(query, axis=-1)[..., :, None] * np.linalg.norm(key, axis=-1)[..., None, :]
        return scale * (query @ key.swapaxes(-1, -2)) / np.where(lengths == 0, 1, lengths)


def cosine_operand(x: Array) -> tuple[Array, Array]:
    """Return unit vectors, and what their gradient needs."""
    x = np.ascontiguousarray(x)
    y, inverse = np.empty_like(x), np.empty((*x.shape[:-1], 2), x.dtype)
    core.normalize(x, y, inverse, inverse.size // 2, x.shape[-1])
    return y, inverse


def cosine_operand_vjp(y: Array, inverse: Array, dy: Array) -> Array:
    """Return the gradient of x from that of its unit vectors."""
    dx = np.empty_like(y)
    core.normalize_backward(y, inverse, np.ascontiguousarray(dy), dx, inverse.size // 2, y.shape[-1])
    return dx
