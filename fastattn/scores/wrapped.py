"""What a score made of another one asks that one for."""

from fastattn.scores.base import Array, ByName, Score

__all__ = ["Wrapped"]


class Wrapped(Score):
    """Base of scores that are another one with something before or behind it: all that a subclass does not say.

    Attributes
    ----------
    inner : Score
    """

    inner: Score

    @property
    def longest(self) -> int | None:
        return self.inner.longest

    def default_scale(self, width: int) -> float:
        return self.inner.default_scale(width)

    def check(self, query: Array, key: Array) -> None:
        self.inner.check(query, key)

    def project_query(self, query: Array) -> Array:
        return self.inner.project_query(query)

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        return self.inner.query_vjp(query, d_projected)

    def query_gradients(self, query: Array, d_projected: Array) -> ByName:
        return self.inner.query_gradients(query, d_projected)

    def project_key(self, key: Array) -> Array:
        return self.inner.project_key(key)

    def key_vjp(self, key: Array, d_projected: Array) -> Array:
        return self.inner.key_vjp(key, d_projected)

    def key_gradients(self, key: Array, d_projected: Array) -> ByName:
        return self.inner.key_gradients(key, d_projected)

    def vector(self) -> Array | None:
        return self.inner.vector()

    def vector_gradients(self, d_vector: Array) -> ByName:
        return self.inner.vector_gradients(d_vector)

    def location(self, keys: int) -> Array | None:
        return self.inner.location(keys)

    def plain(self) -> Score:
        return self.inner.plain()

    def plain_gradients(self, d: ByName) -> ByName:
        return self.inner.plain_gradients(d)
