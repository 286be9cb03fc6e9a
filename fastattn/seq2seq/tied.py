"""An embedding that shares its table with the output layer."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn._kernels import core
from fastattn.layers.parameter import Layer, Parameter

__all__ = ["TiedEmbedding"]

Array = NDArray[Any]


class TiedEmbedding(Layer):
    """Embeddings that are the columns of the output matrix.

    Parameters
    ----------
    w : Parameter, shape (D, V)
        The output layer's.

    References
    ----------
    Press and Wolf, "Using the Output Embedding to Improve Language Models", EACL 2017, arXiv:1608.05859.
    """

    def __init__(self, w: Parameter) -> None:
        self.w = w

    def forward(self, ids: Array) -> Array:
        """Return (..., D)."""
        return np.ascontiguousarray(self.w.value.T[ids])

    def vjp(self, ids: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return ``forward(ids)``, and the function that adds the gradient of its result to that of w."""

        def backward(dy: Array) -> None:
            there, at = np.unique(ids.reshape(-1), return_inverse=True)
            rows = np.zeros((len(there), dy.shape[-1]), dy.dtype)
            core.scatter(core.unit(dy.reshape(-1, dy.shape[-1])), at.reshape(-1), -1, rows)
            self.w.gradient[:, there] += rows.T

        return self.forward(ids), backward
