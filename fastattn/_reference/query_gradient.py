"""The gradient of one query a sample from the weights of its forward pass."""

from typing import Any

import numpy as np

from .shapes import Array


def query_gradient(
    query: Any, key: Any, value: Any, weights: Any, d_context: Any, *, vector: Any = None, scale: float = 1.0
) -> tuple[Array, Array]:
    """d_query (B, D) and d_score (B, Tk) for query (B, D), key (B, Tk, D), value (B, Tk, Dv) and weights (B, Tk).

    The score is query . key, or with a vector v, v . tanh(query + key). Keys and values of weight 0 are not read.
    """
    q, p, d = (np.asarray(x, dtype=np.float64) for x in (query, weights, d_context))
    read = (p != 0)[..., None]
    k, v = np.where(read, key, 0.0).astype(np.float64), np.where(read, value, 0.0).astype(np.float64)
    d_weights = np.einsum("bc,bjc->bj", d, v)
    delta = (p * d_weights).sum(-1, keepdims=True)
    d_score = p * (d_weights - delta) * scale
    if vector is None:
        slope = k
    else:
        slope = (1 - np.tanh(q[:, None] + k) ** 2) * np.asarray(vector, dtype=np.float64)
    return np.einsum("bj,bjc->bc", d_score, slope), d_score
