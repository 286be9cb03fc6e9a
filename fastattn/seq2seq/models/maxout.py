"""The larger of each two neighbours (Goodfellow et al. 2013, "Maxout networks")."""

import numpy as np

from fastattn._arrays import Array

__all__ = ["maxout", "maxout_vjp"]


def maxout(x: Array) -> Array:
    """Return ``y_l = max(x_2l, x_2l+1)``: (..., 2 L) to (..., L)."""
    return np.maximum(x[..., ::2], x[..., 1::2])


def maxout_vjp(x: Array, dy: Array) -> Array:
    """Return the gradient of x: that of y goes to the larger one, to the first of equal ones."""
    first = x[..., ::2] >= x[..., 1::2]
    dx = np.zeros_like(x)
    np.copyto(dx[..., ::2], dy, where=first)
    np.copyto(dx[..., 1::2], dy, where=~first)
    return dx
