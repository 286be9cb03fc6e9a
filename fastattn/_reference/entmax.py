"""Sparsemax, 1.5-entmax and alpha-entmax over the last axis with a mask, by sorting and bisection; their gradients.

::

    p_j = [e z_j - t]+ ^(1 / e),  e = alpha - 1,  t such that sum_j p_j = 1
    dz_j = s_j (dp_j - sum_k s_k dp_k / sum_k s_k),  s_j = p_j^(2 - alpha) where p_j > 0
    d_alpha = sum_j dp_j ((p_j - q_j) / e^2 + (h_j - q_j sum_k h_k) / e),  q = s / sum s,  h_j = -p_j log p_j
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def threshold_sparsemax(z: Array) -> Any:
    """Martins and Astudillo 2016, algorithm 1: the largest k with 1 + k z_(k) > sum of the k largest."""
    ranked = np.sort(z)[::-1]
    sums = np.cumsum(ranked)
    ranks = np.arange(1, len(z) + 1)
    k = int(ranks[1 + ranks * ranked > sums][-1])
    return (sums[k - 1] - 1) / k


def threshold_entmax15(x: Array) -> Any:
    """Peters, Niculae and Martins 2019, algorithm 2, on x = z / 2: the last t_k <= x_(k)."""
    ranked = np.sort(x)[::-1]
    ranks = np.arange(1, len(x) + 1)
    mean = np.cumsum(ranked) / ranks
    spread = np.array([np.sum((ranked[:k] - mean[k - 1]) ** 2) for k in ranks])
    taus = mean - np.sqrt(np.maximum((1 - spread) / ranks, 0))
    # Beyond the support S_k > 1 or t_k > x_(k).
    inside = (taus <= ranked) & (spread <= 1)
    return taus[np.flatnonzero(inside)[-1]]


def row(z: Array, alpha: float) -> Array:
    """Weights of one row without masked entries, in extended precision: the thresholds cancel digits."""
    if np.isnan(z).any() or np.isposinf(z).any():
        return np.full(z.shape, np.nan)
    z = z.astype(np.longdouble)
    z = z - z.max()
    if alpha == 1:
        powers = np.exp(z)
        return powers / powers.sum()
    if alpha == 2:
        return np.maximum(z - threshold_sparsemax(z), 0)
    if alpha == 1.5:
        return np.maximum(z / 2 - threshold_entmax15(z / 2), 0) ** 2
    e = alpha - 1
    low, high = 0.0, np.log(len(z)) + 1e-9  # of t' in y = 1 + e (z - t'), see csrc/normalizers/entmax.h

    def powers_at(t: float) -> Array:
        return np.exp(np.log1p(np.maximum(e * (z - t), -1)) / e)

    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if powers_at(middle).sum() > 1 else (low, middle)
    powers = powers_at(high)
    return powers / powers.sum()


def entmax_weights(scores: Array, allowed: Array, alpha: Any) -> Array:
    """Weights over the allowed entries; alpha is a number, or one for each entry of axis 1; empty rows are zeros."""
    weights = np.zeros(scores.shape)
    alphas = np.broadcast_to(
        np.reshape(alpha, (1, -1, *[1] * (scores.ndim - 3)) if np.ndim(alpha) else ()), scores.shape[:-1]
    )
    with np.errstate(all="ignore"):
        for at in np.ndindex(scores.shape[:-1]):
            inside = allowed[at] & ~np.isneginf(scores[at])
            if inside.any():
                weights[at][inside] = row(scores[at][inside], float(alphas[at]))
    return weights


def entmax_score_vjp(weights: Array, d_weights: Array, alpha: Any) -> tuple[Array, Array]:
    """Gradient of the scores, and what each row adds to that of alpha; d_weights counts where weights are not 0."""
    alphas = np.reshape(alpha, (1, -1, *[1] * (weights.ndim - 2))) if np.ndim(alpha) else np.asarray(alpha, np.float64)
    used = weights != 0
    with np.errstate(all="ignore"):
        slopes = np.where(used, np.where(used, weights, 1.0) ** (2 - alphas), 0.0)
        d = np.where(used, d_weights, 0.0)
        total = slopes.sum(axis=-1, keepdims=True)
        share = slopes / np.where(total == 0, 1, total)
        d_scores = slopes * (d - (share * d).sum(axis=-1, keepdims=True))
        logs = np.where(used, np.log(np.where(used, weights, 1.0)), 0.0)
        h, e = -weights * logs, alphas - 1
        plain = (weights - share) / e**2 + (h - share * h.sum(axis=-1, keepdims=True)) / e
        at_one = (h * logs - weights * (h * logs).sum(axis=-1, keepdims=True)) / 2
        d_alpha = (d * np.where(e == 0, at_one, plain)).sum(axis=-1)
    return d_scores, d_alpha


def entmax(x: Any, alpha: float, mask: Any = None) -> Array:
    """alpha-entmax over the entries where mask is True; zeros elsewhere and in empty rows."""
    x = np.asarray(x, np.float64)
    allowed = np.ones(x.shape, bool) if mask is None else np.broadcast_to(np.asarray(mask, bool), x.shape)
    return entmax_weights(x, allowed, alpha)


def entmax_vjp(y: Any, dy: Any, alpha: float) -> tuple[Array, Array]:
    """(dx, d_alpha of each row) for y = entmax(x, alpha)."""
    return entmax_score_vjp(np.asarray(y, np.float64), np.asarray(dy, np.float64), alpha)
