"""Relative positions in buckets, with a number learnt for each bucket and head."""

from bisect import bisect_right
from functools import cache
from typing import Any

import numpy as np

from fastattn._arrays import Array, as_array, cast, float_axes
from fastattn._kernels import core
from fastattn._numbers import check_flag, check_size
from fastattn._relative import RelativeBias, distances
from fastattn.errors import ArgumentError, DTypeError, describe
from fastattn.layers.parameter import Parameter
from fastattn.positions.base import Positions

__all__ = ["RelativeBuckets", "relative_buckets"]


def relative_buckets(apart: Array, buckets: int = 32, farthest: int = 128, bidirectional: bool = True) -> Array:
    """Return the bucket of each relative position j - i (Raffel et al. 2020, section 2.1, and their code).

    ::

        n < N / 2:      n
        otherwise:      N / 2 + floor(log(n / (N / 2)) / log(farthest / (N / 2)) * N / 2), at most N - 1

    for keys n positions before their query, with N = buckets and keys after it in bucket 0; bidirectional: N is half
    the buckets, and keys after the query are in the other half.

    Parameters
    ----------
    apart : int array
        j - i, key less query.
    buckets, farthest : int
        32 and 128 in the paper: 128 and beyond are one bucket.
    bidirectional : bool
        True in the paper's encoder, False in its decoder.

    Returns
    -------
    int64 array of the shape of `apart`

    Notes
    -----
    Boundaries are compared as integers; the published code rounds a float32 logarithm.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.positions import relative_buckets
    >>> relative_buckets(np.array([0, -1, -7, -8, -20, -500, 1, 500])).tolist()
    [0, 1, 7, 8, 10, 15, 17, 31]
    """
    apart = as_array("apart", apart)
    if apart.dtype.kind not in "iu":
        raise DTypeError(describe("apart", "integers", apart.dtype, cast("apart", apart, np.int64)))
    apart = apart.astype(np.int64)
    hint = "the paper has 32 and 128."
    buckets, farthest = check_size("buckets", buckets, hint=hint), check_size("farthest", farthest, hint=hint)
    bidirectional = check_flag("bidirectional", bidirectional)
    each = buckets // 2 if bidirectional else buckets
    if each < 2 or buckets % (1 + bidirectional) or farthest <= each // 2:
        expected = f"an even number of at least {2 + 2 * bidirectional}, and farthest beyond half of a side"
        raise ArgumentError(describe("buckets", expected, f"{buckets} and farthest {farthest}", hint))
    steps = np.array(_steps(each, farthest), np.int64)
    before = np.searchsorted(steps, np.abs(apart), side="right")
    if bidirectional:
        return np.where(apart > 0, before + each, before).astype(np.int64)
    return np.where(apart > 0, 0, before).astype(np.int64)


@cache
def _steps(each: int, farthest: int) -> tuple[int, ...]:
    """The first distance of each bucket from 1 on."""
    exact = each // 2
    large = each - exact

    def first(m: int) -> int:  # the least n with n^large >= exact^(large - m) farthest^m
        power = exact ** (large - m) * farthest**m
        return bisect_right(range(farthest + 1), power - 1, key=lambda n: n**large)

    return (*range(1, exact + 1), *(first(m) for m in range(1, large)))


class RelativeBuckets(Positions):
    """``score_hij = q_i . k_j / sqrt(d) + table[bucket(j - i), h]`` (Raffel et al. 2020, section 2.1).

    Parameters
    ----------
    heads : int
    buckets, farthest, bidirectional
        As of `relative_buckets`.
    rng : numpy.random.Generator
    deviation : float
        Of the normal distribution from which the table starts.
    dtype : dtype

    Attributes
    ----------
    table : Parameter, shape (buckets, H)

    Notes
    -----
    In T5 the layers of a stack share one table, attention to the encoder has none, and scores are not divided by
    sqrt(d), which its initial weights make up for; here the division stays. The gradient of the table is summed over
    batch and rows in H (Tq + Tk - 1) numbers.

    References
    ----------
    Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer", JMLR 2020,
    arXiv:1910.10683.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.positions import RelativeBuckets
    >>> RelativeBuckets(2, rng=np.random.default_rng(0)).bias(0, 3, 5).values.shape
    (2, 7)
    """

    name = "t5"

    def __init__(
        self,
        heads: int,
        *,
        buckets: int = 32,
        farthest: int = 128,
        bidirectional: bool = True,
        rng: np.random.Generator,
        deviation: float = 0.1,
        dtype: Any = np.float32,
    ) -> None:
        self.table = Parameter((deviation * rng.standard_normal((buckets, heads))).astype(dtype))
        self.options = (buckets, farthest, bidirectional)
        relative_buckets(np.zeros(0, np.int64), *self.options)  # raises where they do not fit

    def _of(self, first: int, queries: int, keys: int) -> Array:
        return relative_buckets(distances(first, queries, keys), *self.options)

    def bias(self, first: int, queries: int, keys: int) -> RelativeBias:
        return RelativeBias(self.table.value[self._of(first, queries, keys)].T)

    def bias_vjp(self, d_bias: Array, first: int, queries: int, keys: int) -> None:
        d_bias = float_axes("d_bias", d_bias, "H, R", max(queries + keys - 1, 0))
        core.scatter(np.ascontiguousarray(d_bias.T), self._of(first, queries, keys), -1, self.table.gradient)
