"""Softmax and its gradient in float64, one sample (and head) at a time, so that it fits any machine."""

import numpy as np

from ...case import Arrays


def exact(data: Arrays) -> Arrays:
    """The inputs in float64."""
    return {name: array.astype(np.float64) for name, array in data.items()}


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def row_terms(weights: np.ndarray, value: np.ndarray, d_context: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the scores and its magnitude, without the factor of the score's own error."""
    d_weights = d_context @ value.T
    d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
    size = np.abs(d_context) @ np.abs(value).T
    return d_scores, weights * (size + (weights * size).sum(axis=-1, keepdims=True))


def empty(data: Arrays) -> tuple[Arrays, Arrays]:
    """Zeros for all outputs, and for their magnitudes."""
    shape = (*data["query"].shape[:-1], data["value"].shape[-1])
    values = {"context": np.zeros(shape)}
    if "d_context" in data:
        values |= {f"d_{name}": np.zeros_like(array) for name, array in data.items() if name != "d_context"}
    return values, {name: np.zeros_like(array) for name, array in values.items()}
