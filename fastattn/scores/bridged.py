"""Scores of queries that pass through a matrix first, for scores whose query and key must be of one width."""

from collections.abc import Mapping
from typing import Self

from fastattn import linear
from fastattn.scores.base import Array, ByName, Held, Score
from fastattn.scores.wrapped import Wrapped

__all__ = ["Bridged"]


class Bridged(Wrapped):
    """``score(q_i bridge, k_j)`` for another score.

    Parameters
    ----------
    inner : Score
    bridge : array, shape (Dq, Dk)
    """

    one_width = False

    def __init__(self, inner: Score, bridge: Array) -> None:
        super().__init__(softcap=inner.softcap)
        self.inner, self.name, self.kernel = inner, inner.name, inner.kernel
        self.activation, self.activation_code = inner.activation, inner.activation_code
        self.trained_names = inner.trained_names
        self.parameters = {"bridge": bridge, **inner.parameters}

    def hold(self, held: Mapping[str, Held]) -> Self:
        other = super().hold(held)
        other.inner = self.inner.hold({name: one for name, one in held.items() if name != "bridge"})
        return other

    def check(self, query: Array, key: Array) -> None:
        self.inner.check(self.matmul("bridge", query), key)

    def project_query(self, query: Array) -> Array:
        return self.inner.project_query(self.matmul("bridge", query))

    def _inner_vjp(self, query: Array, d_projected: Array) -> tuple[Array, Array]:
        through = self.matmul("bridge", query)
        return through, self.inner.query_vjp(through, d_projected)

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        return self.matmul_transposed("bridge", self._inner_vjp(query, d_projected)[1])

    def query_gradients(self, query: Array, d_projected: Array) -> ByName:
        through, d_through = self._inner_vjp(query, d_projected)
        inner = self.inner.query_gradients(through, d_projected)
        return {"bridge": linear.weight_gradient(query, d_through), **inner}
