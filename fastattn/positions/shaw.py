"""Relative keys and values: a vector learnt for each distance."""

from typing import Any

import numpy as np

from fastattn import linear
from fastattn._arrays import Array, float_axes
from fastattn._numbers import check_flag, check_size
from fastattn.layers.parameter import Parameter
from fastattn.positions.base import Positions

__all__ = ["RelativeVectors"]


class RelativeVectors(Positions):
    """Keys and values that depend on the distance from the query (Shaw, Uszkoreit, Vaswani 2018, equations 3 and 4).

    ::

        score_ij  = q_i . (k_j + a_K[clip(j - i, k)]) / sqrt(d)                   (4)
        context_i = sum_j weights_ij (v_j + a_V[clip(j - i, k)])                  (3)

    with clip(x, k) = max(-k, min(k, x)), and one a_K and a_V for all heads, as in section 3.3.

    Parameters
    ----------
    head_width : int
        d.
    clip : int
        k, at least 1; 16 in the paper's base model.
    values : bool
        Whether there is an a_V; the paper's table 2 finds that a_K alone does about as well.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    key, value : Parameter, shape (2 k + 1, d)
        Row r is that of distance r - k. They start with deviation ``d**-0.5``.

    Notes
    -----
    What is added to scores depends on the query, so that it is stored: two or, in the backward pass, six arrays
    (B, H, Tq, Tk) in place of none. Products are with the 2 k + 1 rows, and numbers go from these to keys and back,
    O(Tq Tk) for a head. Others store an array (Tq, Tk, d) of vectors and multiply by that.

    References
    ----------
    Shaw, Uszkoreit, Vaswani, "Self-Attention with Relative Position Representations", NAACL 2018, arXiv:1803.02155.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.positions import RelativeVectors
    >>> scheme = RelativeVectors(4, clip=2, rng=np.random.default_rng(0))
    >>> scheme.sum_by_distance(np.ones((1, 1, 3, 5), np.float32))[0, 0]
    array([[0., 0., 1., 1., 3.],
           [0., 1., 1., 1., 2.],
           [1., 1., 1., 1., 1.]], dtype=float32)
    """

    name = "shaw"
    content = True

    def __init__(
        self,
        head_width: int,
        *,
        clip: int = 16,
        values: bool = True,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        self.clip = clip = check_size("clip", clip, hint="the paper has 16.")
        width = check_size("head_width", head_width, 0)
        shape = (2 * clip + 1, width)
        self.key = Parameter((max(width, 1) ** -0.5 * rng.standard_normal(shape)).astype(dtype))
        self.values = check_flag("values", values)
        if self.values:
            self.value = Parameter((max(width, 1) ** -0.5 * rng.standard_normal(shape)).astype(dtype))

    def scores(self, query: Array, first: int, keys: int) -> Array:
        query = float_axes("query", query, "B, H, Tq, d")
        return self.spread(self.key.packed().matmul_transposed(query), first, keys)

    def scores_vjp(self, d_scores: Array, first: int, query: Array | None = None) -> Array:
        d_rows = self.sum_by_distance(d_scores, first)
        if query is not None:
            # The gradient is the second factor: its rows of zeros are not counted, whatever the query is there.
            self.key.accumulate(np.ascontiguousarray(linear.weight_gradient(query, d_rows).T))
        return self.key.packed().matmul(d_rows)

    def sums(self, weights: Array, first: int) -> Array | None:
        return self.value.packed().matmul(self.sum_by_distance(weights, first)) if self.values else None

    def sums_vjp(self, d_sums: Array, first: int, keys: int, weights: Array | None = None) -> Array | None:
        if not self.values:
            return None
        d_sums = float_axes("d_sums", d_sums, "B, H, Tq, d")
        if weights is not None:
            linear.weight_gradient(self.sum_by_distance(weights, first), d_sums, self.value.gradient)
        return self.spread(self.value.packed().matmul_transposed(d_sums), first, keys)

    def spread(self, rows: Array, first: int, keys: int) -> Array:
        """Return numbers (B, H, Tq, 2 k + 1) of distances as those of keys, (B, H, Tq, Tk)."""
        apart = np.arange(keys) - np.arange(first, first + rows.shape[2])[:, None]
        return np.take_along_axis(rows, np.clip(apart + self.clip, 0, 2 * self.clip)[None, None], axis=-1)

    def sum_by_distance(self, x: Array, first: int = 0) -> Array:
        """Return the sums of x (B, H, Tq, Tk) over keys of one distance, (B, H, Tq, 2 k + 1), keys ascending."""
        x = float_axes("x", x, "B, H, Tq, Tk")
        k, (queries, keys) = self.clip, x.shape[-2:]
        rows = np.zeros((*x.shape[:-1], 2 * k + 1), x.dtype)
        if not keys or not queries:
            return rows
        at = np.arange(first, first + queries)
        key = at[:, None] + np.arange(1 - k, k)
        there = (key >= 0) & (key < keys)
        near = np.take_along_axis(x, np.clip(key, 0, keys - 1)[None, None], axis=-1)
        rows[..., 1:-1] = np.where(there, near, 0)
        # Sums run in order, not as np.sum pleases: padding must not change them.
        before = np.take_along_axis(np.cumsum(x, axis=-1), np.clip(at - k, 0, keys - 1)[None, None, :, None], axis=-1)
        rows[..., :1] = np.where(at[:, None] >= k, before, 0)
        after = np.where(np.arange(keys) >= at[:, None] + k, x, 0)
        rows[..., -1] = np.cumsum(after, axis=-1)[..., -1]
        return rows
