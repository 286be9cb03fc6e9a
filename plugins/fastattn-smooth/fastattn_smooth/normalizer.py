"""Weights in proportion to the logistic function of scores, and their gradient."""

import math

import numba
import numpy as np

from fastattn.normalizers import RowFunctions

__all__ = ["formula", "smooth"]

# Rows are float64 whatever the arrays are; n >= 1, and what is masked is not among the keys.
FORWARD = "void(CPointer(f8), CPointer(f8), i8)"
BACKWARD = "void(CPointer(f8), CPointer(f8), CPointer(f8), CPointer(f8), i8)"


@numba.cfunc(FORWARD, cache=True, error_model="numpy")
def forward(scores, weights, n):
    """p_j = sigmoid(z_j) / sum_k sigmoid(z_k), as a softmax of log sigmoid(z) = min(z, 0) - log(1 + exp(-|z|))."""
    most = -math.inf
    for j in range(n):
        z = scores[j]
        weights[j] = (z if z < 0 or z != z else 0.0) - math.log1p(math.exp(-abs(z)))
        if not weights[j] <= most:  # NaN too
            most = weights[j]
    total = 0.0
    for j in range(n):
        weights[j] = math.exp(weights[j] - most)
        total += weights[j]
    for j in range(n):
        weights[j] /= total


@numba.cfunc(BACKWARD, cache=True, error_model="numpy")
def backward(scores, weights, d_weights, d_scores, n):
    """dz_j = p_j (1 - sigmoid(z_j)) (dp_j - sum_k p_k dp_k)."""
    along = 0.0
    for j in range(n):
        along += weights[j] * d_weights[j]
    for j in range(n):
        z = scores[j]
        e = math.exp(-abs(z))
        d_scores[j] = weights[j] * (e if z > 0 else 1.0) / (1.0 + e) * (d_weights[j] - along)


def smooth():
    """Return the normalizer; it has no options."""
    return RowFunctions(forward, backward)


def formula(scores):
    """The same in plain NumPy, for the conformance kit."""
    weights = np.where(scores > -np.inf, 1 / (1 + np.exp(-scores)), 0)
    return weights / weights.sum(axis=-1, keepdims=True)
