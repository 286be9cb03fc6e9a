"""Softmax over the last axis with a mask, and its gradient."""

from typing import Any

import numpy as np

from .shapes import Array


def softmax_and_lse(scores: Array, allowed: Array) -> tuple[Array, Array]:
    """Weights and log-sum-exp of each row over its allowed entries; an empty row gives zeros and -inf."""
    with np.errstate(all="ignore"):
        scores = np.where(allowed, scores, -np.inf)
        empty = ~allowed.any(axis=-1, keepdims=True)
        largest = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
        largest = np.where(empty, 0.0, largest)
        powers = np.where(allowed, np.exp(scores - largest), 0.0)
        total = powers.sum(axis=-1, keepdims=True)
        weights = np.where(allowed, powers / np.where(empty, 1.0, total), 0.0)
        lse = np.where(empty, -np.inf, largest + np.log(np.where(empty, 1.0, total)))
    return weights, lse[..., 0]


def softmax(x: Any, mask: Any = None) -> Array:
    """exp(x_j) / sum_k exp(x_k) over the entries where mask is True; zeros elsewhere and in empty rows."""
    x = np.asarray(x, dtype=np.float64)
    allowed = np.ones(x.shape, bool) if mask is None else np.broadcast_to(np.asarray(mask, bool), x.shape)
    return softmax_and_lse(x, allowed & ~np.isneginf(x))[0]


def softmax_vjp(y: Any, dy: Any) -> Array:
    """y_j (dy_j - sum_k y_k dy_k); an entry whose weight is zero has a zero gradient, whatever dy holds there."""
    y = np.asarray(y, dtype=np.float64)
    dy = np.asarray(dy, dtype=np.float64)
    with np.errstate(all="ignore"):
        products = np.where(y == 0, 0.0, y * dy)
        return products - y * products.sum(axis=-1, keepdims=True)
