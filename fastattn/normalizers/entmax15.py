"""1.5-entmax."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fastattn.normalizers.base import Array, KernelNormalizer, Normalizer, entmax_kernel

__all__ = ["Entmax15"]

_KERNEL = entmax_kernel(1.5)


@dataclass(frozen=True)
class Entmax15(Normalizer):
    """Halfway between softmax and sparsemax: sparse weights that go to zero smoothly.

    ::

        p_j = [z_j / 2 - t]+ ^2
        d_z = s (d_p - sum_k s_k d_p_k / sum_k s_k),   s_j = sqrt(p_j)

    Notes
    -----
    The threshold t is exact up to rounding: Newton's steps drop keys until the rest all stay above the root of their
    quadratic equation. Only keys whose score is within 2 of the row's largest can have a weight.

    References
    ----------
    Peters, Niculae, Martins 2019 (arXiv:1905.05702), eq. 3 and algorithm 2, which sorts instead.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, k = np.array([[1.0]]), np.array([[2.0], [0.0], [-0.5]])
    >>> fastattn.attention(q, k, k, score="dot", normalizer="entmax15", return_weights=True).weights
    array([[1., 0., 0.]])
    """

    name: ClassVar[str] = "entmax15"

    def kernel(self, query_shape: tuple[int, ...]) -> KernelNormalizer:
        """Return 1.5-entmax."""
        return _KERNEL

    def slopes(self, weights: Array) -> Array:
        """Return the square roots of the weights."""
        slopes: Array = np.sqrt(weights)
        return slopes
