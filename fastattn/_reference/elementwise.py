"""exp, tanh and sigmoid in float64."""

from typing import Any

import numpy as np

from .shapes import Array


def exp(x: Any) -> Array:
    """e to the power x."""
    with np.errstate(all="ignore"):
        return np.exp(np.asarray(x, dtype=np.float64))


def tanh(x: Any) -> Array:
    """Hyperbolic tangent."""
    with np.errstate(all="ignore"):
        return np.tanh(np.asarray(x, dtype=np.float64))


def sigmoid(x: Any) -> Array:
    """1 / (1 + exp(-x)), written so that neither end overflows or cancels."""
    x = np.asarray(x, dtype=np.float64)
    with np.errstate(all="ignore"):
        small = np.exp(-np.abs(x))
        return np.where(x >= 0, 1.0, small) / (1.0 + small)
