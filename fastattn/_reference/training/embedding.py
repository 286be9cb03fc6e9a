"""The gradient of an embedding table."""

from typing import Any

import numpy as np

from ..shapes import Array


def embedding_vjp(ids: Any, dy: Any, size: int, padding: int | None = None) -> Array:
    """Sum of the rows of dy at the positions of each id; positions of `padding` are not read: (size, width)."""
    dy = np.asarray(dy, dtype=np.float64)
    dw = np.zeros((size, dy.shape[-1]))
    for number, row in zip(np.ravel(ids).tolist(), dy.reshape(-1, dy.shape[-1])):
        if number != padding:
            dw[number] += row
    return dw
