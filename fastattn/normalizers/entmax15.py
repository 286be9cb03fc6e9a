"""1.5-entmax."""

from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from fastattn.normalizers.base import Normalizer, constant_alpha

__all__ = ["Entmax15"]

_ALPHA = constant_alpha(1.5)


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

    def kernel_alpha(self, query_shape: tuple[int, ...]) -> NDArray[Any]:
        """Return 1.5."""
        return _ALPHA
