"""One step of Adam with decoupled decay."""

import numpy as np

from ..shapes import Array


def adam_step(
    value: Array,
    gradient: Array,
    m: Array,
    v: Array,
    step: int,
    *,
    rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    decay: float = 0.0,
) -> tuple[Array, Array, Array]:
    """The new (value, m, v); step counts from 1."""
    value, g, m, v = (np.asarray(a, dtype=np.float64) for a in (value, gradient, m, v))
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return value - rate * decay * value - rate * m_hat / (np.sqrt(v_hat) + epsilon), m, v
