"""Between the shapes that users pass, 2-D to 4-D, and the one shape (B, H, T, D) that the twin works on."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def to_four(x: Any) -> Array:
    """float64 (B, H, T, D) from (T, D), (B, T, D) or (B, H, T, D)."""
    x = np.asarray(x, dtype=np.float64)
    return x[None, None] if x.ndim == 2 else x[:, None] if x.ndim == 3 else x


def spread_heads(x: Array, heads: int) -> Array:
    """Repeat each key head for its group of query heads."""
    return np.repeat(x, heads // x.shape[1], axis=1) if x.shape[1] and x.shape[1] != heads else x


def gather_heads(x: Array, heads: int) -> Array:
    """Sum each group of query heads into its key head: the transpose of spread_heads."""
    batch, total, *rest = x.shape
    return x if total == heads or not heads else x.reshape(batch, heads, total // heads, *rest).sum(axis=2)


def to_pairs(x: Any, batch_shape: tuple[int, ...], queries: int, keys: int) -> Array:
    """A mask or a bias broadcast to (B, H, Tq, Tk)."""
    x = np.broadcast_to(np.asarray(x), (*batch_shape, queries, keys))
    return x[None, None] if x.ndim == 2 else x[:, None] if x.ndim == 3 else x


def unbroadcast(x: Array, shape: tuple[int, ...]) -> Array:
    """Sum x over the axes along which an array of the given shape was broadcast to it."""
    extra = x.ndim - len(shape)
    x = x.sum(axis=tuple(range(extra)))
    axes = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    return x.sum(axis=axes, keepdims=True).reshape(shape)
