"""Matrix products, among them the one that leaves masked entries unread."""

from typing import Any

import numpy as np

from .shapes import Array


def matmul(x: Any, w: Any) -> Array:
    """x @ w for x (..., K) and w (K, N)."""
    with np.errstate(all="ignore"):
        return np.asarray(x, dtype=np.float64) @ np.asarray(w, dtype=np.float64)


def matmul_transposed(dy: Any, w: Any) -> Array:
    """dy @ w.T for dy (..., N) and w (K, N)."""
    return matmul(dy, np.asarray(w, dtype=np.float64).T)


def weight_gradient(x: Any, dy: Any) -> Array:
    """Sum over all rows of the outer product of x (..., K) and dy (..., N): (K, N)."""
    x = np.asarray(x, dtype=np.float64)
    dy = np.asarray(dy, dtype=np.float64)
    if not (x.size and dy.size):
        return np.zeros((x.shape[-1], dy.shape[-1]))
    return matmul(x.reshape(-1, x.shape[-1]).T, dy.reshape(-1, dy.shape[-1]))


def select_matmul(left: Array, right: Array, keep: Array) -> Array:
    """sum_j left[i, j] right[j, c] over the j with keep[i, j] only: left (..., I, J), right (..., J, C).

    Where keep is False neither factor is read, so a NaN or an infinity there leaves no trace.
    """
    with np.errstate(all="ignore"):
        left = np.where(keep, left, 0.0)
        if np.isfinite(right).all():
            return left @ right
        terms = np.where(keep[..., None], left[..., None] * right[..., None, :, :], 0.0)
        return terms.sum(axis=-2)
