"""The float64 answer of every case, and the magnitude that rounding errors are measured in.

For a softmax-weighted sum the natural unit of the error of output ``i`` is ``eps * A_i * (1 + S_i)``, where ``A`` is
the same sum over absolute values and ``S`` the largest score of the row summed over absolute values: an error of
``S * eps`` in a score multiplies its weight by ``1 + S * eps``. Gradients use the same rule: every sum that forms them
is taken over absolute values. Recurrent layers are measured by their largest value, once for each step, since every
step adds an error to all that follow. All other work is done for one sample (and head) at a time, so that it fits any
machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import bahdanau, recurrent, sparse, steps, transformer
from .cases import Case
from .inputs import Arrays


@dataclass(frozen=True)
class Reference:
    """Right values by name, and for each the size of one unit of error before the factor ``eps``."""

    values: Arrays
    magnitudes: Arrays


def compute(case: Case, data: Arrays) -> Reference:
    """Context (or product) and, for a backward case, all gradients, in float64."""
    if case.family == "bahdanau":
        return Reference(*bahdanau.reference(case, data))
    if case.family == "transformer":
        return Reference(*transformer.reference(case, data))
    if case.family == "steps":
        return Reference(*steps.reference(case, data))
    exact = {name: array.astype(np.float64) for name, array in data.items()}
    if case.family == "gemm":
        x, w = exact["x"], exact["w"]
        return Reference({"product": x @ w}, {"product": np.abs(x) @ np.abs(w)})
    if case.family in ("gru", "lstm"):
        return _recurrent(case, exact)
    if case.family == "additive":
        return _additive(exact)
    if case.family == "sparse":
        return _sparse(exact, case.normalizer)
    return _dot(exact, case.causal)


def _weights(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _row_terms(weights: np.ndarray, value: np.ndarray, d_context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the scores and its magnitude, without the factor of the score's own error."""
    d_weights = d_context @ value.T
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    size = np.abs(d_context) @ np.abs(value).T
    return d_scores, weights * (size + (weights * size).sum(axis=-1, keepdims=True))


def _empty(data: Arrays) -> tuple[Arrays, Arrays]:
    shape = (*data["query"].shape[:-1], data["value"].shape[-1])
    values = {"context": np.zeros(shape)}
    if "d_context" in data:
        values |= {f"d_{name}": np.zeros_like(array) for name, array in data.items() if name != "d_context"}
    return values, {name: np.zeros_like(array) for name, array in values.items()}


def _dot(data: Arrays, causal: bool) -> Reference:
    values, sizes = _empty(data)
    query, key, value = data["query"], data["key"], data["value"]
    scale = query.shape[-1] ** -0.5
    for at in np.ndindex(query.shape[:-2]):
        q, k, v = query[at], key[at], value[at]
        scores = scale * (q @ k.T)
        spread = scale * (np.abs(q) @ np.abs(k).T)
        if causal:
            future = ~np.tri(*scores.shape, dtype=bool)
            scores[future], spread[future] = -np.inf, 0.0
        weights = _weights(scores)
        factor = 1.0 + spread.max(axis=-1, keepdims=True)
        values["context"][at] = weights @ v
        sizes["context"][at] = weights @ np.abs(v) * factor
        if "d_context" not in data:
            continue
        d_context = data["d_context"][at]
        d_scores, size = _row_terms(weights, v, d_context)
        size *= factor
        values["d_value"][at] = weights.T @ d_context
        sizes["d_value"][at] = (weights * factor).T @ np.abs(d_context)
        values["d_query"][at], sizes["d_query"][at] = scale * (d_scores @ k), scale * (size @ np.abs(k))
        values["d_key"][at], sizes["d_key"][at] = scale * (d_scores.T @ q), scale * (size.T @ np.abs(q))
    return Reference(values, sizes)


def _sparse(data: Arrays, normalizer: str) -> Reference:
    values, units = _empty(data)
    names = ("context", "d_query", "d_key", "d_value")
    for at in np.ndindex(data["query"].shape[:-2]):
        one = {name: array[at] for name, array in data.items()}
        found = sparse.attend(**one, normalizer=normalizer)
        several = found if isinstance(found, tuple) else (found,)
        size = sparse.sizes(**{"d_context": None, **one}, normalizer=normalizer, eps=2.0**-23)
        for name, value, unit in zip(names, several, size, strict=False):
            values[name][at], units[name][at] = value, unit
    return Reference(values, units)


def _additive(data: Arrays) -> Reference:
    values, sizes = _empty(data)
    v = data["v"]
    for at in range(data["query"].shape[0]):
        value = data["value"][at]
        hidden = np.tanh(data["query"][at][:, None, :] + data["key"][at][None, :, :])
        weights = _weights(hidden @ v)
        factor = 1.0 + (np.abs(hidden) @ np.abs(v)).max(axis=-1, keepdims=True)
        values["context"][at] = weights @ value
        sizes["context"][at] = weights @ np.abs(value) * factor
        if "d_context" not in data:
            continue
        d_context = data["d_context"][at]
        d_scores, size = _row_terms(weights, value, d_context)
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


def _recurrent(case: Case, data: Arrays) -> Reference:
    values = recurrent.compute(case.family, data)
    steps = case.sizes["T"]
    return Reference(values, {name: np.full_like(value, steps * np.abs(value).max()) for name, value in values.items()})
