"""Scores by distance."""

import copy
import math
from typing import Self

import numpy as np

from fastattn import linear
from fastattn.scores.base import Array, ByName, Score

__all__ = ["L2"]


class L2(Score):
    """``score_ij = -scale |q_i - k_j|^2`` (Kim, Papamakarios, Mnih 2021, arXiv:2006.04710, section 3.2).

    `scale` is 1 / sqrt(D) by default, as there; x-transformers uses the plain distance with a scale of its own.

    Notes
    -----
    Computed as ``scale (2 q . k - |k|^2) - scale |q|^2``, the latter as a bias of the row: trained, it is left out,
    as it moves all scores of a query alike, which no normalizer of ours sees; with a function on scores it is one more
    column of the product. Rounding is relative to ``|q| |k| + |k|^2``: move the origin near the vectors where these are
    long and close to each other. It takes no softcap.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q = np.eye(2, 3, dtype=np.float32)
    >>> fastattn.attention(q, q, q, score="l2").shape
    (2, 3)
    """

    name = "l2"
    summary = "-|q - k|^2 / sqrt(D)"
    paper = "Kim, Papamakarios, Mnih 2021 (arXiv:2006.04710), section 3.2"

    _whole = False  # whether |q|^2 is a column of the product

    def __init__(self) -> None:
        super().__init__()

    def whole(self) -> Self:
        other = copy.copy(self)
        other._whole = True
        return other

    def default_scale(self, width: int) -> float:
        return 1 / math.sqrt(max(width, 1))

    def project_query(self, query: Array) -> Array:
        parts = [query + query, np.full((*query.shape[:-1], 1), -1, query.dtype)]
        return np.concatenate([*parts, -squares(query)] if self._whole else parts, axis=-1)

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        d_query: Array = 2 * d_projected[..., : query.shape[-1]]
        return d_query + squares_vjp(query, -d_projected[..., -1:]) if self._whole else d_query

    def project_key(self, key: Array) -> Array:
        parts = [key, squares(key)]
        return np.concatenate([*parts, np.ones_like(parts[1])] if self._whole else parts, axis=-1)

    def key_vjp(self, key: Array, d_projected: Array) -> Array:
        width = key.shape[-1]
        d_key = squares_vjp(key, d_projected[..., width : width + 1])
        return np.add(d_projected[..., :width], d_key, out=d_key)

    def offset(self, query: Array) -> Array | None:
        return None if self._whole else -squares(query)

    def offset_vjp(self, query: Array, d_offset: Array) -> tuple[Array, ByName]:
        return squares_vjp(query, -d_offset), {}

    @staticmethod
    def formula(parameters: ByName, query: Array, key: Array, scale: float) -> Array:
        return -scale * ((query[..., :, None, :] - key[..., None, :, :]) ** 2).sum(-1)


def squares(x: Array) -> Array:
    """Return ``|x|^2`` of rows, (..., 1)."""
    return linear.matmul(x * x, np.ones((x.shape[-1], 1), x.dtype))


def squares_vjp(x: Array, d: Array) -> Array:
    """Return the gradient of x from that of its squares; what was not read has gradient 0 and may be NaN."""
    d_x: Array = x * (d + d)
    d_x[np.broadcast_to(d[..., 0] == 0, d_x.shape[:-1])] = 0
    return d_x
