"""Scaled dot attention in float64, one head at a time."""

import numpy as np

from ...case import Arrays, Case
from ...reference import Reference
from ..attention.reference import empty, exact, row_terms, softmax


def compute(case: Case, data: Arrays) -> Reference:
    data = exact(data)
    values, sizes = empty(data)
    query, key, value = data["query"], data["key"], data["value"]
    scale = query.shape[-1] ** -0.5
    for at in np.ndindex(query.shape[:-2]):
        q, k, v = query[at], key[at], value[at]
        scores = scale * (q @ k.T)
        spread = scale * (np.abs(q) @ np.abs(k).T)
        if case.options.get("causal"):
            future = ~np.tri(*scores.shape, dtype=bool)
            scores[future], spread[future] = -np.inf, 0.0
        weights = softmax(scores)
        factor = 1.0 + spread.max(axis=-1, keepdims=True)
        values["context"][at] = weights @ v
        sizes["context"][at] = weights @ np.abs(v) * factor
        if "d_context" not in data:
            continue
        d_context = data["d_context"][at]
        d_scores, size = row_terms(weights, v, d_context)
        size *= factor
        values["d_value"][at] = weights.T @ d_context
        sizes["d_value"][at] = (weights * factor).T @ np.abs(d_context)
        values["d_query"][at], sizes["d_query"][at] = scale * (d_scores @ k), scale * (size @ np.abs(k))
        values["d_key"][at], sizes["d_key"][at] = scale * (d_scores.T @ q), scale * (size.T @ np.abs(q))
    return Reference(values, sizes)
