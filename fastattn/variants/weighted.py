"""Global soft attention by distance, and by a learnt combination of query and memory."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastattn import linear
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.layers import Parameter
from fastattn.scores import Dot as DotScore
from fastattn.scores.base import Score
from fastattn.variants.dot import ScaledDot
from fastattn.variants.protocol.checks import NormalizerLike, check_choice
from fastattn.variants.protocol.variant import Array
from fastattn.variants.soft import Soft

__all__ = ["Distance", "LinearCombination"]


class Distance(ScaledDot):
    """``score_j = -scale |query - memory_j|^2`` (Kim, Papamakarios, Mnih 2021, arXiv:2006.04710, section 3.2).

    `scale` is 1 / sqrt(D) by default, as there; x-transformers uses the plain distance with a scale of its own.
    Parameters as of `Dot`.

    Notes
    -----
    Computed as ``scale (2 q . m - |m|^2)``, since ``|q|^2`` moves all scores of a query alike, which
    no normalizer of ours sees (one of a plugin may: this is its score then). Rounding is relative to
    ``|q| |m| + |m|^2``: move the origin near the vectors where these are long and close to each other.
    """

    name = "l2"

    def _key(self, memory: Array) -> Array:
        squares = linear.matmul(memory * memory, np.ones((self.memory_width, 1), self.dtype))
        return np.concatenate([memory, squares], axis=-1)

    def _key_vjp(self, memory: Array, key: Array, d_key: Array) -> Array:
        d_squares = d_key[..., -1:]
        # What was not read has gradient 0 and may be NaN.
        return d_key[..., :-1] + np.where(d_squares == 0, 0, 2 * memory * d_squares)

    def _project(self, query: Array) -> Array:
        return np.concatenate([query + query, np.full((*query.shape[:-1], 1), -1, self.dtype)], axis=-1)

    def _project_vjp(self, query: Array, projected: Array, d_projected: Array) -> Array:
        d_query: Array = 2 * d_projected[..., :-1]
        return d_query


_TERMS = ("x", "y", "x*y", "x+y", "x-y", "x/y")


class LinearCombination(Soft):
    """``score_j = act(w . [terms of query x and memory row y] + b)``, AllenNLP's `LinearAttention`.

    Parameters
    ----------
    query_width, memory_width : int
        The same, unless the terms are x and y alone.
    terms : sequence of str
        Among "x", "y", "x*y", "x+y", "x-y", "x/y", each elementwise and at most once; ("x", "y") in AllenNLP, and
        ("x", "y", "x*y") in Seo et al. 2017 (arXiv:1611.01603), equation 1.
    activation : {"linear", "tanh"}
    normalizer : str, mapping or Normalizer
        As of `Soft`.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    w : Parameter, shape (sum of the widths of the terms,)
        In the order of the terms.
    b : Parameter, shape (1,)

    Notes
    -----
    All of it is one dot product: products and quotients with the query's share of w, sums with a column of their own.
    """

    name = "linear"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        terms: Sequence[str] = ("x", "y"),
        activation: str = "linear",
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype, normalizer)
        known = isinstance(terms, (list, tuple)) and all(term in tuple(_TERMS) for term in terms)
        if not known or not terms or len(set(terms)) < len(terms):
            hint = "a term is elementwise, x the query and y a row of the memory."
            raise ArgumentError(describe("terms", f"some of {', '.join(_TERMS)}", repr(terms), hint))
        if query_width != memory_width and not set(terms) <= {"x", "y"}:
            hint = "only the terms x and y may differ in width."
            raise ShapeError(describe("memory_width", f"{query_width}, that of queries", memory_width, hint))
        self.terms, self.activation = tuple(terms), check_choice("activation", activation, ("linear", "tanh"))
        widths = [query_width if term == "x" else memory_width for term in terms]
        bounds = np.cumsum([0, *widths])
        self._at = {term: slice(int(a), int(b)) for term, a, b in zip(terms, bounds, bounds[1:])}
        bound = math.sqrt(6 / (sum(widths) + 1))
        self.w = Parameter(rng.uniform(-bound, bound, sum(widths)).astype(dtype))
        self.b = Parameter(np.zeros(1, dtype))
        self._products = [term for term in ("x*y", "x/y") if term in terms]

    def _sum(self, *signs: tuple[str, int]) -> Array:
        """Return the vector (D, 1) that acts on x or y alone, out of the terms that hold it."""
        width = self.query_width if signs[0][0] == "x" else self.memory_width
        total = np.zeros(width, self.dtype)
        for term, sign in signs:
            if term in self._at:
                total += sign * self.w.value[self._at[term]]
        return total[:, None]

    def _sum_vjp(self, d_total: Array, *signs: tuple[str, int]) -> None:
        for term, sign in signs:
            if term in self._at:
                self.w.gradient[self._at[term]] += sign * d_total[:, 0]

    _X = (("x", 1), ("x+y", 1), ("x-y", 1))
    _Y = (("y", 1), ("x+y", 1), ("x-y", -1))

    def _score(self) -> Score:
        return DotScore(softcap=1.0 if self.activation == "tanh" else None)

    def _key(self, memory: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [memory if term == "x*y" else 1 / memory for term in self._products]
        ones = np.ones((*memory.shape[:-1], 1), self.dtype)
        return np.concatenate([*parts, ones, linear.matmul(memory, self._sum(*self._Y))], axis=-1)

    def _key_vjp(self, memory: Array, key: Array, d_key: Array) -> Array:
        d_sum, D = np.ascontiguousarray(d_key[..., -1:]), self.memory_width
        self._sum_vjp(linear.weight_gradient(memory, d_sum), *self._Y)
        d_memory = linear.matmul(d_sum, np.ascontiguousarray(self._sum(*self._Y).T))
        for i, term in enumerate(self._products):
            d = d_key[..., i * D : (i + 1) * D]
            with np.errstate(divide="ignore", invalid="ignore"):
                d_memory += d if term == "x*y" else np.where(d == 0, 0, -d / (memory * memory))
        return d_memory

    def _project(self, query: Array) -> Array:
        parts = [query * self.w.value[self._at[term]] for term in self._products]
        ones = np.ones((*query.shape[:-1], 1), self.dtype)
        return np.concatenate([*parts, linear.matmul(query, self._sum(*self._X)) + self.b.value, ones], axis=-1)

    def _project_vjp(self, query: Array, projected: Array, d_projected: Array) -> Array:
        d_sum, D = np.ascontiguousarray(d_projected[..., -2:-1]), self.query_width
        d_query = linear.matmul(d_sum, np.ascontiguousarray(self._sum(*self._X).T))
        for i, term in enumerate(self._products):
            d_query += d_projected[..., i * D : (i + 1) * D] * self.w.value[self._at[term]]
        return d_query

    def _gather(self, queries: Array, d_projected: Array) -> None:
        d_sum, D = np.ascontiguousarray(d_projected[..., -2:-1]), self.query_width
        self._sum_vjp(linear.weight_gradient(queries, d_sum, sums=self.b.gradient), *self._X)
        for i, term in enumerate(self._products):
            self.w.gradient[self._at[term]] += linear.row_sum(d_projected[..., i * D : (i + 1) * D] * queries)
