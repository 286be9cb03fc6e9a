"""NumPy: the textbook formula and its hand-written gradient."""

from typing import Any

import numpy as np

from ...case import Arrays, Case, Run
from ...case import named as collect
from ..attention.numpy import softmax_gradient, softmax_in_place

__all__ = ["collect", "prepare"]


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    rows, keys = data["query"].shape[-2], data["key"].shape[-2]
    future = ~np.tri(rows, keys, dtype=bool) if case.options.get("causal") else None
    return {"": lambda: _dot(**data, future=future)}


def _dot(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    d_context: np.ndarray | None = None,
    future: np.ndarray | None = None,
) -> Any:
    scale = np.float32(query.shape[-1] ** -0.5)
    scores = (query * scale) @ key.swapaxes(-1, -2)
    if future is not None:
        np.putmask(scores, np.broadcast_to(future, scores.shape), np.float32(-np.inf))
    weights = softmax_in_place(scores)
    context = weights @ value
    if d_context is None:
        return context
    d_scores = softmax_gradient(weights, d_context @ value.swapaxes(-1, -2))
    d_scores *= scale
    return context, d_scores @ key, d_scores.swapaxes(-1, -2) @ query, weights.swapaxes(-1, -2) @ d_context
