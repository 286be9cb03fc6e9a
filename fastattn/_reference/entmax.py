"""Sparsemax, 1.5-entmax and alpha-entmax over the last axis with a mask, by sorting and Newton's method; gradients.

::

    p_j = [e z_j - t]+ ^(1 / e),  e = alpha - 1,  t such that sum_j p_j = 1
    dz_j = s_j (dp_j - sum_k s_k dp_k / sum_k s_k),  s_j = p_j^(2 - alpha) where p_j > 0
    d_alpha = sum_j dp_j ((p_j - q_j) / e^2 + (h_j - q_j sum_k h_k) / e),  q = s / sum s,  h_j = -p_j log p_j
"""

from typing import Any

import numpy as np

from .shapes import Array


def threshold_sparsemax(z: Array) -> Array:
    """Martins and Astudillo 2016, algorithm 1: the largest k with 1 + k z_(k) > sum of the k largest."""
    ranked = np.sort(z)[..., ::-1]
    sums = np.cumsum(ranked, axis=-1)
    ranks = np.arange(1, z.shape[-1] + 1)
    k = _last(1 + ranks * ranked > sums)
    return (np.take_along_axis(sums, k, -1) - 1) / (k + 1)


def threshold_entmax15(x: Array) -> Array:
    """Peters, Niculae and Martins 2019, algorithm 2, on x = z / 2: the last t_k <= x_(k)."""
    ranked = np.sort(x)[..., ::-1]
    ranks = np.arange(1, x.shape[-1] + 1)
    mean = np.cumsum(ranked, axis=-1) / ranks
    # The support lies within 1 of the largest, which is 0 here: little cancels in extended precision.
    spread = np.cumsum(ranked * ranked, axis=-1) - ranks * mean * mean
    taus = mean - np.sqrt(np.maximum((1 - spread) / ranks, 0))
    # Beyond the support S_k > 1 or t_k > x_(k); where x is -inf all is NaN, and neither.
    return np.take_along_axis(taus, _last((taus <= ranked) & (spread <= 1)), -1)


def _last(inside: Array) -> Array:
    """The last index where inside is True, with an axis of length one."""
    return inside.shape[-1] - 1 - inside[..., ::-1].argmax(axis=-1, keepdims=True)


def rows(z: Array, alpha: float) -> Array:
    """Weights of rows (N, S), -inf where masked but not all of a row, in extended precision: thresholds cancel digits.

    For other alpha than 1, 1.5 and 2 by Newton's method on t' in y = 1 + e (z - t'), see
    csrc/attention/normalizers/entmax.inl: the sum is convex and falls with t', so that steps from t' = 0 rise to the
    threshold and never pass it.
    """
    z = z.astype(np.longdouble)
    z = z - z.max(axis=-1, keepdims=True)
    if alpha == 1:
        powers = np.exp(z)
        return powers / powers.sum(axis=-1, keepdims=True)
    if alpha == 2:
        return np.maximum(z - threshold_sparsemax(z), 0)
    if alpha == 1.5:
        return np.maximum(z / 2 - threshold_entmax15(z / 2), 0) ** 2
    e = alpha - 1
    t = np.zeros((len(z), 1), np.longdouble)
    for _ in range(200):
        logs = np.log1p(np.maximum(e * (z - t), -1))
        powers = np.exp(logs / e)
        slopes = np.where(powers > 0, np.exp(logs * (1 / e - 1)), 0).sum(axis=-1, keepdims=True)
        step = np.maximum((powers.sum(axis=-1, keepdims=True) - 1) / slopes, 0)
        if (step <= np.finfo(np.longdouble).eps * (1 + t)).all():
            return powers / powers.sum(axis=-1, keepdims=True)
        t = t + step
    raise ArithmeticError("the threshold of alpha-entmax was not found")


def entmax_weights(scores: Array, allowed: Array, alpha: Any) -> Array:
    """Weights over the allowed entries; alpha is a number, or one for each entry of axis 1; empty rows are zeros."""
    alphas = np.broadcast_to(
        np.reshape(alpha, (1, -1, *[1] * (scores.ndim - 3)) if np.ndim(alpha) else ()), scores.shape[:-1]
    )
    inside = np.where(allowed, scores, -np.inf)
    broken = (np.isnan(inside) | np.isposinf(inside)).any(axis=-1)
    filled = ~np.isneginf(inside).all(axis=-1)
    weights = np.zeros(scores.shape)
    weights[broken] = np.where(np.isneginf(inside[broken]), 0.0, np.nan)
    with np.errstate(all="ignore"):
        for each in np.unique(alphas):
            chosen = filled & ~broken & (alphas == each)
            if chosen.any():
                z = inside[chosen]
                # What is masked is at the end of each row, and left away: with a window it is most of it.
                order = np.argsort(-z, axis=-1)[:, : np.isfinite(z).sum(axis=-1).max()]
                found = np.zeros(z.shape)
                np.put_along_axis(found, order, rows(np.take_along_axis(z, order, -1), float(each)), -1)
                weights[chosen] = found
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


def sparsemax(x: Any) -> Array:
    """Martins and Astudillo 2016, equation 2."""
    return entmax(x, 2.0)


def entmax15(x: Any) -> Array:
    """Peters, Niculae and Martins 2019, equation 3 at alpha = 1.5."""
    return entmax(x, 1.5)


def entmax_vjp(y: Any, dy: Any, alpha: float) -> tuple[Array, Array]:
    """(dx, d_alpha of each row) for y = entmax(x, alpha)."""
    return entmax_score_vjp(np.asarray(y, np.float64), np.asarray(dy, np.float64), alpha)
