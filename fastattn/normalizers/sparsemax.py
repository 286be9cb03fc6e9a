"""Sparsemax."""

from dataclasses import dataclass
from typing import ClassVar

from fastattn.normalizers.base import Array, KernelNormalizer, Normalizer, entmax_kernel

__all__ = ["Sparsemax"]

_KERNEL = entmax_kernel(2.0)


@dataclass(frozen=True)
class Sparsemax(Normalizer):
    """The nearest point to the scores among all weights that are not negative and sum to one.

    ::

        p   = argmin_{p >= 0, sum p = 1} |p - z|^2:   p_j = [z_j - t]+
        d_z = s (d_p - sum_k s_k d_p_k / sum_k s_k),   s_j = 1 where p_j > 0, else 0

    Notes
    -----
    The threshold t is found exactly, over the keys whose score is within 1 of the row's largest; no other can have a
    weight. At a score where a key's weight becomes 0 the gradient is that of the side on which it is 0.

    References
    ----------
    Martins, Astudillo 2016 (arXiv:1602.02068), eq. 2, algorithm 1 and prop. 2; the threshold by Michelot 1986.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, k = np.array([[1.0]]), np.array([[0.5], [0.0], [-0.6]])
    >>> fastattn.attention(q, k, k, score="dot", normalizer="sparsemax", return_weights=True).weights
    array([[0.75, 0.25, 0.  ]])
    """

    name: ClassVar[str] = "sparsemax"

    def kernel(self, query_shape: tuple[int, ...]) -> KernelNormalizer:
        """Return alpha-entmax with alpha = 2."""
        return _KERNEL

    def slopes(self, weights: Array) -> Array:
        """Return 1 where the weight is not 0."""
        slopes: Array = (weights != 0).astype(weights.dtype)
        return slopes
