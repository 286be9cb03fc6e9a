"""Sparsemax and 1.5-entmax written plainly in NumPy, by sorting: a peer."""

from functools import partial

import numpy as np

from ...case import Arrays, Case, Run
from ...case import named as collect

__all__ = ["collect", "prepare"]


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    return {"sort": partial(_attend, **data, normalizer=case.options["normalizer"])}


def _signed(scores: np.ndarray, normalizer: str) -> np.ndarray:
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


def _weights(scores: np.ndarray, normalizer: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and the slope of each in its score."""
    y = np.maximum(_signed(scores, normalizer), 0)
    return (y, (y > 0).astype(y.dtype)) if normalizer == "sparsemax" else (y * y, y)


def _gradient(slope: np.ndarray, d_weights: np.ndarray) -> np.ndarray:
    """Gradient of the scores."""
    mean = (slope * d_weights).sum(axis=-1, keepdims=True) / slope.sum(axis=-1, keepdims=True)
    return slope * (d_weights - mean)


def _attend(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, d_context: np.ndarray | None = None, *, normalizer: str
) -> tuple[np.ndarray, ...] | np.ndarray:
    """Context, and with d_context the gradients of query, key and value."""
    scale = query.dtype.type(query.shape[-1] ** -0.5)
    p, slope = _weights((query * scale) @ key.swapaxes(-1, -2), normalizer)
    context = p @ value
    if d_context is None:
        return context
    d_scores = _gradient(slope, d_context @ value.swapaxes(-1, -2)) * scale
    return context, d_scores @ key, d_scores.swapaxes(-1, -2) @ query, p.swapaxes(-1, -2) @ d_context
