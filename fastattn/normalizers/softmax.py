"""Softmax."""

from dataclasses import dataclass
from typing import ClassVar

from fastattn.normalizers.base import Array, Normalizer

__all__ = ["Softmax"]


@dataclass(frozen=True)
class Softmax(Normalizer):
    """``p_j = exp(z_j) / sum_k exp(z_k)``: every key that is not masked has a weight.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, kv = np.zeros((1, 2), np.float32), np.array([[2.0, 0.0], [4.0, 0.0]], np.float32)
    >>> fastattn.attention(q, kv, kv, normalizer=fastattn.normalizers.Softmax())
    array([[3., 0.]], dtype=float32)
    """

    name: ClassVar[str] = "softmax"

    def kernel(self, query_shape: tuple[int, ...]) -> None:
        """Return None, the kernels of softmax."""

    def slopes(self, weights: Array) -> Array:
        """Return the weights themselves, whose sum is one."""
        return weights
