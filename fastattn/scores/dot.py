"""Scores that are dot products: plain, scaled, of unit vectors, and through a matrix."""

import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from fastattn import linear
from fastattn._kernels import core
from fastattn.errors import ShapeError, describe
from fastattn.scores.base import Array, OperandGradients, Operands, ProjectedGradients, Score, parameter

__all__ = ["Cosine", "Dot", "General", "ScaledDot"]


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

    def default_scale(self, width: int) -> float:
        return 1 / math.sqrt(width) if width else 1.0


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

    def project(self, query: Array, key: Array, scale: float) -> Operands:
        q, q_inverse = cosine_operand(query)
        k, k_inverse = cosine_operand(key)
        return Operands(q, k, saved=(q_inverse, k_inverse))

    def project_query(self, query: Array, product: Callable[[Array], Array] | None = None) -> Array:
        return cosine_operand(query)[0]

    def project_key(self, key: Array) -> Array:
        return cosine_operand(key)[0]

    def project_vjp(self, operands: Operands, d: OperandGradients, scale: float) -> ProjectedGradients:
        d_query, d_key = d.query, d.key
        q_inverse, k_inverse = operands.saved
        return (
            cosine_operand_vjp(operands.query, q_inverse, d_query),
            cosine_operand_vjp(operands.key, k_inverse, d_key),
            {},
        )


class General(Score):
    """``score_ij = q_i w k_j`` (Luong, Pham, Manning 2015, section 3.1, "general"; "bilinear" elsewhere).

    Parameters
    ----------
    w : array, shape (Dq, Dk)
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, k = np.ones((2, 3), np.float32), np.ones((4, 5), np.float32)
    >>> fastattn.attention(q, k, k, score=fastattn.scores.General(np.ones((3, 5), np.float32))).shape
    (2, 5)
    """

    name = "general"
    axes: ClassVar[dict[str, int]] = {"w": 2}

    def __init__(self, w: Array, *, softcap: float | None = None) -> None:
        super().__init__(softcap=softcap)
        self.parameters = {"w": parameter("w", w, (None, None), "the matrix of q w k, of shape (Dq, Dk)")}

    def check(self, query: Array, key: Array) -> None:
        wanted, got = (query.shape[-1], key.shape[-1]), self.parameters["w"].shape
        if wanted != got:
            raise ShapeError(
                describe("w", f"shape {wanted}, the widths of query and key", f"shape {got}", "w is (Dq, Dk).")
            )

    def query_weight(self, query_width: int) -> Array:
        return self.parameters["w"]

    def project_vjp(self, operands: Operands, d: OperandGradients, scale: float) -> ProjectedGradients:
        d_query, d_key = d.query, d.key
        query, _ = operands.saved
        w = self.parameters["w"]
        return linear.matmul(d_query, w.T), d_key, {"w": linear.weight_gradient(query, d_query)}


def cosine_operand(x: Array) -> tuple[Array, Array]:
    x = np.ascontiguousarray(x)
    y, inverse = np.empty_like(x), np.empty((*x.shape[:-1], 2), x.dtype)
    core.normalize(x, y, inverse, inverse.size // 2, x.shape[-1])
    return y, inverse


def cosine_operand_vjp(y: Array, inverse: Array, dy: Array) -> Array:
    dx = np.empty_like(y)
    core.normalize_backward(y, inverse, np.ascontiguousarray(dy), dx, inverse.size // 2, y.shape[-1])
    return dx
