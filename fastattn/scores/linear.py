"""Scores that are a learnt combination of query and key, elementwise."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np

from fastattn._numbers import check_choice
from fastattn.errors import ArgumentError, ShapeError, describe
from fastattn.linear import matmul, row_sum, weight_gradient
from fastattn.scores.base import Array, ByName, Score, parameter

__all__ = ["LinearCombination"]

Activation = Literal["linear", "tanh"]

_TERMS = ("x", "y", "x*y", "x+y", "x-y", "x/y")
_X = (("x", 1), ("x+y", 1), ("x-y", 1))
_Y = (("y", 1), ("x+y", 1), ("x-y", -1))


def _weights(rng: np.random.Generator, query: int, key: int, dtype: Any) -> Array:
    return rng.normal(size=query + key).astype(dtype)


class LinearCombination(Score):
    """``score_ij = act(w . [terms of query x and key y] + b)``, AllenNLP's `LinearAttention`.

    Parameters
    ----------
    w : array, shape (sum of the widths of the terms,)
        In the order of the terms.
    b : array, shape (1,)
    terms : sequence of str
        Among "x", "y", "x*y", "x+y", "x-y", "x/y", each elementwise and at most once; ("x", "y") in AllenNLP, and
        ("x", "y", "x*y") in Seo et al. 2017 (arXiv:1611.01603), equation 1. Query and key are of one width, unless the
        terms are x and y alone.
    activation : {"linear", "tanh"}

    Notes
    -----
    All of it is one dot product: products and quotients with the query's share of w, sums with a column of their own.
    Trained, w starts uniform in +-sqrt(6 / (n + 1)) for its n elements.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, score = np.eye(2, 3), fastattn.scores.create("linear", w=np.ones(6), b=np.zeros(1))
    >>> fastattn.attention(q, q, q, score=score).shape
    (2, 3)
    """

    name = "linear"
    summary = "act(w . [x, y, x * y, ...] + b)"
    paper = "AllenNLP's LinearAttention; Seo et al. 2017 (arXiv:1611.01603), eq. 1"
    examples = ({"w": _weights, "b": lambda rng, query, key, dtype: rng.normal(size=1).astype(dtype)},)
    axes: ClassVar[dict[str, int]] = {"w": 1, "b": 1}
    one_width = False

    def __init__(
        self, w: Array, b: Array, terms: Sequence[str] = ("x", "y"), activation: Activation = "linear"
    ) -> None:  # fmt: skip
        activation = check_choice("activation", activation, get_args(Activation))
        super().__init__(softcap=1.0 if activation == "tanh" else None)
        self.parameters = {
            "w": parameter("w", w, (None,), "one number for each element of the terms"),
            "b": parameter("b", b, (1,), "a number that is added, of shape (1,)"),
        }
        self.terms, self.activation = _known(terms), activation
        self._products = [term for term in ("x*y", "x/y") if term in terms]

    @classmethod
    def drawn(
        cls, query_width: int, key_width: int, *, terms: Sequence[str] = ("x", "y"), activation: Activation = "linear",
        rng: np.random.Generator, dtype: Any = np.float32,
    ) -> Self:  # fmt: skip
        """Return one to begin training with."""
        terms = _known(terms)
        if query_width != key_width and not set(terms) <= {"x", "y"}:
            hint = "only the terms x and y may differ in width."
            raise ShapeError(describe("memory_width", f"{query_width}, that of queries", key_width, hint))
        size = sum(query_width if term == "x" else key_width for term in terms)
        bound = math.sqrt(6 / (size + 1))
        w = rng.uniform(-bound, bound, size).astype(dtype)
        return cls(w, np.zeros(1, w.dtype), terms, activation)

    def check(self, query: Array, key: Array) -> None:
        widths, size = (query.shape[-1], key.shape[-1]), self.parameters["w"].shape[0]
        wanted = sum(widths[0] if term == "x" else widths[1] for term in self.terms)
        if size != wanted or (widths[0] != widths[1] and self.terms not in (("x", "y"), ("y", "x"), ("x",), ("y",))):
            expected = f"{wanted} elements for terms of a query of width {widths[0]} and keys of width {widths[1]}"
            raise ShapeError(describe("w", expected, f"shape ({size},)", "only the terms x and y may differ in width."))

    def _at(self, term: str, width: int) -> slice:
        """Return where a term has its elements of w; its own width is that of the query, or of the key."""
        size, place = self.parameters["w"].shape[0], self.terms.index(term)
        each = [width if one == term or len(self.terms) > 2 else size - width for one in self.terms]
        return slice(sum(each[:place]), sum(each[: place + 1]))

    def _sum(self, width: int, signs: tuple[tuple[str, int], ...]) -> Array:
        """Return the vector (D, 1) that acts on x or y alone, out of the terms that hold it."""
        w = self.parameters["w"]
        total = np.zeros(width, w.dtype)
        for term, sign in signs:
            if term in self.terms:
                total += sign * w[self._at(term, width)]
        return total[:, None]

    def _sum_vjp(self, d_total: Array, signs: tuple[tuple[str, int], ...]) -> Array:
        """Return the gradient of w from that of this vector."""
        d_w = np.zeros_like(self.parameters["w"])
        for term, sign in signs:
            if term in self.terms:
                d_w[self._at(term, len(d_total))] += sign * d_total[:, 0]
        return d_w

    def project_query(self, query: Array) -> Array:
        w, b, D = self.parameters["w"], self.parameters["b"], query.shape[-1]
        parts = [query * w[self._at(term, D)] for term in self._products]
        ones = np.ones((*query.shape[:-1], 1), query.dtype)
        return np.concatenate([*parts, matmul(query, self._sum(D, _X)) + b, ones], axis=-1)

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        d_sum, D = np.ascontiguousarray(d_projected[..., -2:-1]), query.shape[-1]
        d_query = matmul(d_sum, np.ascontiguousarray(self._sum(D, _X).T))
        for i, term in enumerate(self._products):
            d_query += d_projected[..., i * D : (i + 1) * D] * self.parameters["w"][self._at(term, D)]
        return d_query

    def query_gradients(self, query: Array, d_projected: Array) -> ByName:
        d_sum, D = np.ascontiguousarray(d_projected[..., -2:-1]), query.shape[-1]
        d_b = np.zeros_like(self.parameters["b"])
        d_w = self._sum_vjp(weight_gradient(query, d_sum, sums=d_b), _X)
        for i, term in enumerate(self._products):
            d_w[self._at(term, D)] += row_sum(d_projected[..., i * D : (i + 1) * D] * query)
        return {"w": d_w, "b": d_b}

    def project_key(self, key: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [key if term == "x*y" else 1 / key for term in self._products]
        ones = np.ones((*key.shape[:-1], 1), key.dtype)
        return np.concatenate([*parts, ones, matmul(key, self._sum(key.shape[-1], _Y))], axis=-1)

    def key_vjp(self, key: Array, d_projected: Array) -> Array:
        d_sum, D = np.ascontiguousarray(d_projected[..., -1:]), key.shape[-1]
        d_key = matmul(d_sum, np.ascontiguousarray(self._sum(D, _Y).T))
        for i, term in enumerate(self._products):
            d = d_projected[..., i * D : (i + 1) * D]
            with np.errstate(divide="ignore", invalid="ignore"):
                d_key += d if term == "x*y" else np.where(d == 0, 0, -d / (key * key))
        return d_key

    def key_gradients(self, key: Array, d_projected: Array) -> ByName:
        return {"w": self._sum_vjp(weight_gradient(key, np.ascontiguousarray(d_projected[..., -1:])), _Y)}

    @staticmethod
    def formula(
        p: ByName, query: Array, key: Array, scale: float, *, terms: Sequence[str] = ("x", "y"),
        activation: Activation = "linear",
    ) -> Array:  # fmt: skip
        x, y = query[..., :, None, :], key[..., None, :, :]
        total: Any = p["b"]
        start = 0
        with np.errstate(all="ignore"):
            for term in terms:
                one = {"x": x, "y": y}.get(term)
                if one is None:
                    one = x * y if "*" in term else x + y if "+" in term else x - y if "-" in term else x / y
                total, start = total + one @ p["w"][start : start + one.shape[-1]], start + one.shape[-1]
        return np.tanh(scale * total) if activation == "tanh" else scale * total


def _known(terms: Sequence[str]) -> tuple[str, ...]:
    known = isinstance(terms, (list, tuple)) and all(term in _TERMS for term in terms)
    if not known or not terms or len(set(terms)) < len(terms):
        hint = "a term is elementwise, x the query and y a key."
        raise ArgumentError(describe("terms", f"some of {', '.join(_TERMS)}", repr(terms), hint))
    return tuple(terms)
