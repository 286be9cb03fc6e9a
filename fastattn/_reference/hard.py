"""Hard attention at inference, and what training by Gumbel softmax and by exact likelihoods differentiates."""

from typing import Any

import numpy as np

from .shapes import Array
from .variants import normalized, soft_scores


def probabilities(p: dict[str, Array], queries: Any, memory: Any, allowed: Array, score: str = "additive") -> Array:
    """p (B, T, S)."""
    inside = {name.removeprefix("align."): value for name, value in p.items()}
    m = np.where(allowed[..., None], np.asarray(memory, np.float64), 0.0)
    q = np.asarray(queries, np.float64)
    return np.stack([normalized(soft_scores(score, inside, q[:, t], m), allowed) for t in range(q.shape[1])], axis=1)


def hard(
    p: dict[str, Array], queries: Any, memory: Any, values: Any, allowed: Array, *, score: str = "additive", **more: Any
) -> tuple[Array, Array]:
    """The likeliest position of every step."""
    found = probabilities(p, queries, memory, allowed, score)
    weights = (np.arange(found.shape[2]) == found.argmax(-1)[..., None]) & (found > 0)
    v = np.where(allowed[..., None], np.asarray(values, np.float64), 0.0)
    return np.einsum("bts,bsd->btd", weights, v), weights.astype(np.float64)


def marginal_likelihood(weights: Any, log_likelihoods: Any) -> Array:
    """Wu, Shapiro, Cotterell 2018: log sum_j p(j) p(y | j)."""
    with np.errstate(divide="ignore"):
        return np.log((np.asarray(weights, np.float64) * np.exp(np.asarray(log_likelihoods, np.float64))).sum(-1))
