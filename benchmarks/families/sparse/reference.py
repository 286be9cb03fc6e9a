"""Sparse attention in float64, one head at a time, and the unit of error of each output."""

import numpy as np

from ...case import Arrays, Case
from ...reference import Reference
from ..attention.reference import empty, exact
from .numpy import attend, signed


def compute(case: Case, data: Arrays) -> Reference:
    data, normalizer = exact(data), case.options["normalizer"]
    values, units = empty(data)
    names = ("context", "d_query", "d_key", "d_value")
    for at in np.ndindex(data["query"].shape[:-2]):
        one = {name: array[at] for name, array in data.items()}
        found = attend(**one, normalizer=normalizer)
        several = found if isinstance(found, tuple) else (found,)
        size = _sizes(**{"d_context": None, **one}, normalizer=normalizer, eps=2.0**-23)
        for name, value, unit in zip(names, several, size, strict=False):
            values[name][at], units[name][at] = value, unit
    return Reference(values, units)


def _sizes(
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
