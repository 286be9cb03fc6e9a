"""Sparsemax and 1.5-entmax written plainly in NumPy, by sorting: a peer in float32, the reference in float64."""

from __future__ import annotations

import numpy as np

ALPHA = {"sparsemax": 2.0, "entmax15": 1.5}


def signed(scores: np.ndarray, normalizer: str) -> np.ndarray:
    """``(alpha - 1) z - t`` of each score of a row: its weight is what is positive of it, entmax15: squared."""
    x = scores - scores.max(axis=-1, keepdims=True)
    if normalizer == "entmax15":
        x /= 2
    ranked = -np.sort(-x, axis=-1)
    ranks = np.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    sums = np.cumsum(ranked, axis=-1)
    if normalizer == "sparsemax":
        taus = (sums - 1) / ranks
    else:
        mean = sums / ranks
        spread = np.cumsum(ranked * ranked, axis=-1) - ranks * mean * mean
        taus = mean - np.sqrt(np.maximum((1 - spread) / ranks, 0))
    support = (taus < ranked).cumprod(axis=-1).sum(axis=-1, keepdims=True)
    return x - np.take_along_axis(taus, support.astype(np.int64) - 1, axis=-1)


def weights(scores: np.ndarray, normalizer: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and the slope of each in its score."""
    y = np.maximum(signed(scores, normalizer), 0)
    return (y, (y > 0).astype(y.dtype)) if normalizer == "sparsemax" else (y * y, y)


def gradient(slope: np.ndarray, d_weights: np.ndarray) -> np.ndarray:
    """Gradient of the scores."""
    mean = (slope * d_weights).sum(axis=-1, keepdims=True) / slope.sum(axis=-1, keepdims=True)
    return slope * (d_weights - mean)


def attend(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, d_context: np.ndarray | None = None, *, normalizer: str
) -> tuple[np.ndarray, ...] | np.ndarray:
    """Context, and with d_context the gradients of query, key and value."""
    scale = query.dtype.type(query.shape[-1] ** -0.5)
    p, slope = weights((query * scale) @ key.swapaxes(-1, -2), normalizer)
    context = p @ value
    if d_context is None:
        return context
    d_scores = gradient(slope, d_context @ value.swapaxes(-1, -2)) * scale
    return context, d_scores @ key, d_scores.swapaxes(-1, -2) @ query, p.swapaxes(-1, -2) @ d_context


def sizes(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, d_context: np.ndarray | None, *, normalizer: str, eps: float
) -> list[np.ndarray]:
    """The unit of error of each output of `attend` over the last two axes.

    A weight errs by its slope times the error of a score, ``eps (1 + S)``; slopes err where they have a slope of their
    own. The slope of sparsemax jumps: a row with a score too near to its threshold may go either way.
    """
    scale = query.shape[-1] ** -0.5
    factor = 1 + scale * (np.abs(query) @ np.abs(key).T).max(axis=-1, keepdims=True)
    y = signed(scale * (query @ key.T), normalizer)
    room = 4 * eps * factor
    near = np.maximum(y + room, 0)
    p = np.maximum(y, 0) if normalizer == "sparsemax" else np.maximum(y, 0) ** 2
    slope = (near > 0).astype(float) if normalizer == "sparsemax" else near
    unit = factor * (slope + p)
    found = [unit @ np.abs(value)]
    if d_context is None:
        return found
    size = np.abs(d_context) @ np.abs(value).T
    reach = slope + (0.5 * factor * (near > 0) if normalizer == "entmax15" else 0)
    total = np.where(y > 0, slope, 0).sum(axis=-1, keepdims=True)
    mean = (reach * size).sum(axis=-1, keepdims=True) / total
    of_scores = reach * (size + mean * reach.sum(axis=-1, keepdims=True) / total)
    if normalizer == "sparsemax":
        of_scores[(np.abs(y) < 4 * room).any(axis=-1)] = 1e30
    of_scores *= scale
    return [*found, of_scores @ np.abs(key), of_scores.T @ np.abs(query), unit.T @ np.abs(d_context)]
