"""Attention with linear biases."""

from typing import Any

import numpy as np

from fastattn._arrays import Array, float_dtype
from fastattn._numbers import check_size
from fastattn._relative import RelativeBias, distances
from fastattn.positions.base import Positions

__all__ = ["Alibi", "alibi_slopes"]


def alibi_slopes(heads: int) -> Array:
    """Return the slopes of H heads, float64 (H,): ``2^(-8 i / H)`` for i = 1..H (Press et al. 2022, section 3).

    The paper has this sequence for powers of 2. For other H its published code takes that of the power of 2 below, and
    then every other slope of the power above, as is done here.

    Examples
    --------
    >>> from fastattn.positions import alibi_slopes
    >>> alibi_slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    >>> alibi_slopes(3).tolist()
    [0.0625, 0.00390625, 0.25]
    """
    below = 1 << (heads.bit_length() - 1) if heads else 0
    slopes = [2.0 ** (-8 * i / below) for i in range(1, below + 1)]
    slopes += [2.0 ** (-4 * i / below) for i in range(1, 2 * below + 1, 2)][: heads - below]
    return np.array(slopes, np.float64)


class Alibi(Positions):
    """``score_hij = q_i . k_j / sqrt(d) - slope_h |i - j|`` (Press, Smith, Lewis 2022, section 3).

    Parameters
    ----------
    heads : int
    dtype : dtype

    Attributes
    ----------
    slopes : array, shape (H,)
        Not trained, as in the paper.

    Notes
    -----
    The paper is about causal attention, where ``|i - j|`` is i - j; elsewhere toolkits treat both sides alike. Some
    add ``slope_h j`` instead, which the softmax of a causal row does not tell from it, but for rounding. The bias is
    H (Tq + Tk - 1) numbers, which the kernels read in place.

    References
    ----------
    Press, Smith, Lewis, "Train Short, Test Long: Attention with Linear Biases Enables Input Length Extrapolation",
    ICLR 2022, arXiv:2108.12409.

    Examples
    --------
    >>> from fastattn.positions import Alibi
    >>> Alibi(2).bias(2, 1, 3).values
    array([[-0.125     , -0.0625    , -0.        ],
           [-0.0078125 , -0.00390625, -0.        ]], dtype=float32)
    """

    name = "alibi"

    def __init__(self, heads: int, *, dtype: Any = np.float32) -> None:
        self.slopes = alibi_slopes(check_size("heads", heads)).astype(float_dtype(dtype))

    def bias(self, first: int, queries: int, keys: int) -> RelativeBias:
        apart = distances(first, queries, keys)
        return RelativeBias(self.slopes[:, None] * -np.abs(apart).astype(self.slopes.dtype), trained=False)
