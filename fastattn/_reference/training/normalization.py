"""Layer normalization and its gradients."""

from typing import Any

import numpy as np

from ..shapes import Array


def _normal(x: Array, epsilon: float) -> tuple[Array, Array]:
    apart = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((apart**2).mean(axis=-1, keepdims=True) + epsilon)
    return apart / deviation, deviation


def layer_norm(x: Any, gain: Any, offset: Any, epsilon: float) -> Array:
    """gain * (x - mean) / sqrt(variance + epsilon) + offset over the last axis."""
    normal, _ = _normal(np.asarray(x, dtype=np.float64), epsilon)
    return normal * np.asarray(gain, dtype=np.float64) + np.asarray(offset, dtype=np.float64)


def layer_norm_vjp(x: Any, gain: Any, epsilon: float, dy: Any) -> tuple[Array, Array, Array]:
    """Gradients (d_x, d_gain, d_offset); x is not read in rows where dy is zero."""
    x, dy = np.asarray(x, dtype=np.float64), np.asarray(dy, dtype=np.float64)
    read = (dy != 0).any(axis=-1, keepdims=True)
    normal, deviation = _normal(np.where(read, x, 0.0), epsilon)
    n, width = normal, x.shape[-1]
    g = dy * np.asarray(gain, dtype=np.float64)
    # The Jacobian of a row is (1 - 1/N - n n^T / N) / deviation: derived by the chain rule through mean and variance.
    along = (g * n).sum(axis=-1, keepdims=True)
    dx = np.where(read, (g - g.sum(axis=-1, keepdims=True) / width - n * along / width) / deviation, 0.0)
    return dx, (dy * n).reshape(-1, width).sum(axis=0), dy.reshape(-1, width).sum(axis=0)
