"""Gaussian scores: by distance, over a width that is trained."""

from typing import Any, ClassVar, Self

import numpy as np

from fastattn import linear
from fastattn.scores.base import Array, ByName, parameter
from fastattn.scores.l2 import L2, squares

__all__ = ["Gaussian"]


def _width(rng: np.random.Generator, query: int, key: int, dtype: Any) -> Array:
    return rng.uniform(0.5, 2.0, 1).astype(dtype)


class Gaussian(L2):
    """``score_ij = -|q_i - k_j|^2 / (2 s^2)``: weights of softmax are those of Nadaraya and Watson (1964).

    Parameters
    ----------
    s : array, shape (1,)
        Trained, it starts within 1 % of the fourth root of D / 4, where the score is that of `L2`.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, score = np.eye(2, 3), fastattn.scores.create("gaussian", s=np.ones(1))
    >>> fastattn.attention(q, q, q, score=score).shape
    (2, 3)
    """

    name = "gaussian"
    summary = "-|q - k|^2 / (2 s^2)"
    paper = "Nadaraya 1964; Watson 1964"
    examples = ({"s": _width},)
    axes: ClassVar[dict[str, int]] = {"s": 1}

    def __init__(self, s: Array) -> None:
        super().__init__()
        self.parameters = {"s": parameter("s", s, (1,), "the width of the Gaussian, of shape (1,)")}

    @classmethod
    def drawn(cls, query_width: int, key_width: int, *, rng: np.random.Generator, dtype: Any = np.float32) -> Self:
        """Return one to begin training with."""
        return cls((rng.uniform(0.99, 1.01, 1) * (max(key_width, 1) / 4) ** 0.25).astype(dtype))

    def default_scale(self, width: int) -> float:
        return 1.0

    def _factor(self) -> Array:
        return 1 / (2 * self.parameters["s"] ** 2)

    def _gradient(self, made: Array, d_made: Array) -> ByName:
        """Return the gradient of s through what it divides by its square."""
        sums = linear.row_sum(np.where(d_made == 0, 0, made * d_made))
        return {"s": -2 / self.parameters["s"] * linear.row_sum(sums[:, None])}

    def project_query(self, query: Array) -> Array:
        return super().project_query(query) * self._factor()

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        return super().query_vjp(query, d_projected * self._factor())

    def query_gradients(self, query: Array, d_projected: Array) -> ByName:
        return self._gradient(self.project_query(query), d_projected)

    def offset(self, query: Array) -> Array | None:
        offset = super().offset(query)
        return None if offset is None else offset * self._factor()

    def offset_vjp(self, query: Array, d_offset: Array) -> tuple[Array, ByName]:
        made = -squares(query) * self._factor()
        return super().offset_vjp(query, d_offset * self._factor())[0], self._gradient(made, d_offset)

    @staticmethod
    def formula(parameters: ByName, query: Array, key: Array, scale: float) -> Array:
        return L2.formula({}, query, key, scale) / (2 * parameters["s"] ** 2)
