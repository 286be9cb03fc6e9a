"""Additive attention in float64, one sample at a time."""

import numpy as np

from ...case import Arrays, Case
from ...reference import Reference
from ..attention.reference import empty, exact, row_terms, softmax


def compute(case: Case, data: Arrays) -> Reference:
    data = exact(data)
    values, sizes = empty(data)
    v = data["v"]
    for at in range(data["query"].shape[0]):
        value = data["value"][at]
        hidden = np.tanh(data["query"][at][:, None, :] + data["key"][at][None, :, :])
        weights = softmax(hidden @ v)
        factor = 1.0 + (np.abs(hidden) @ np.abs(v)).max(axis=-1, keepdims=True)
        values["context"][at] = weights @ value
        sizes["context"][at] = weights @ np.abs(value) * factor
        if "d_context" not in data:
            continue
        d_context = data["d_context"][at]
        d_scores, size = row_terms(weights, value, d_context)
        size *= factor
        values["d_value"][at] = weights.T @ d_context
        sizes["d_value"][at] = (weights * factor).T @ np.abs(d_context)
        values["d_v"] += np.einsum("ij,ija->a", d_scores, hidden, optimize=True)
        sizes["d_v"] += np.einsum("ij,ija->a", size, np.abs(hidden), optimize=True)
        slope = (1.0 - hidden * hidden) * v
        values["d_query"][at] = np.einsum("ij,ija->ia", d_scores, slope, optimize=True)
        values["d_key"][at] = np.einsum("ij,ija->ja", d_scores, slope, optimize=True)
        # 1 - tanh^2 is known to within eps, not to within eps of itself, so its unit of error is 1.
        sizes["d_query"][at] = size.sum(axis=1)[:, None] * np.abs(v)
        sizes["d_key"][at] = size.sum(axis=0)[:, None] * np.abs(v)
    return Reference(values, sizes)
