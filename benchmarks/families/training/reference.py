"""A training step in float64, and the unit of error of each output of a model.

Errors of float32 that has no fault, in units of eps times the largest element of an output, are below 15 here. With the
gates of accuracy.py a value may be off by 2e-5 of the largest, and a gradient by 1e-4. Adam turns rounding near 0 into
whole steps, and PyTorch sums squares of millions of elements in float32. Chosen tokens are right or wrong.
"""

from collections.abc import Callable

import numpy as np

from ...case import Arrays
from ...reference import Reference
from . import BETAS, EPSILON, LIMIT

EPS = float(np.finfo(np.float32).eps)
_UNITS = {"later": 4e-4 / 4 / EPS, "norm": 2e-3 / 4 / EPS, "tokens": 0.0}
LossAndGradients = Callable[[Arrays], tuple[float, Arrays]]


def trained(parameters: Arrays, loss_and_gradients: LossAndGradients, rate: float) -> Arrays:
    """``loss``, ``norm``, ``d_<parameter>``, and ``later``, the loss after two steps of Adam."""
    loss, gradients = loss_and_gradients(parameters)
    values = {"loss": np.array([loss]), "norm": np.array([norm(gradients)])}
    values |= {f"d_{name}": gradient for name, gradient in gradients.items()}
    later, parameters = gradients, dict(parameters)
    m = {name: np.zeros_like(value) for name, value in gradients.items()}
    v = {name: np.zeros_like(value) for name, value in gradients.items()}
    for step in (1, 2):
        scale = min(1.0, LIMIT / norm(later))
        for name, gradient in later.items():
            m[name] = BETAS[0] * m[name] + (1 - BETAS[0]) * scale * gradient
            v[name] = BETAS[1] * v[name] + (1 - BETAS[1]) * (scale * gradient) ** 2
            size, spread = m[name] / (1 - BETAS[0] ** step), np.sqrt(v[name] / (1 - BETAS[1] ** step))
            parameters[name] = parameters[name] - rate * size / (spread + EPSILON)
        loss, later = loss_and_gradients(parameters)
    return values | {"later": np.array([loss])}


def judged(values: Arrays, gradient: float = 100.0) -> Reference:
    """The values with their units of error."""
    units = {name: _UNITS.get(name, gradient if name.startswith("d_") else 40.0) for name in values}
    return Reference(values, {name: np.full(x.shape, units[name] * np.abs(x).max()) for name, x in values.items()})


def norm(gradients: Arrays) -> float:
    return float(np.sqrt(sum((gradient * gradient).sum() for gradient in gradients.values())))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
