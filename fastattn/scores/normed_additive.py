"""Additive scores whose vector has a length of its own."""

from typing import Any, ClassVar, Self

import numpy as np

from fastattn import linear
from fastattn.scores.additive import Activation, Additive
from fastattn.scores.base import Array, ByName, normal, parameter
from fastattn.scores.cosine import cosine_operand, cosine_operand_vjp

__all__ = ["NormedAdditive"]

_EXAMPLE = {"v": normal(7), "g": normal(1), "w_query": normal("query", 7), "w_key": normal("key", 7), "b": normal(7)}


class NormedAdditive(Additive):
    """``score_ij = g v / |v| . act(q_i w_query + k_j w_key + b)`` (Raffel et al. 2017, equation 16, without r).

    The score's offset r of the paper moves all scores alike, which our normalizers do not see. Trained, g starts at
    1 / sqrt(Da) and b at zero, as in TensorFlow's `BahdanauAttention(normalize=True)`.

    Parameters
    ----------
    v, w_query, w_key, b, activation, softcap
        As of `Additive`; the length of v has no effect.
    g : array, shape (1,)

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, score = np.eye(2, 3), fastattn.scores.create("normed_additive", v=np.ones(3), g=np.ones(1))
    >>> fastattn.attention(q, q, q, score=score).shape
    (2, 3)
    """

    name = "normed_additive"
    summary = "g v / |v| . act(q w_query + k w_key + b)"
    paper = "Raffel et al. 2017 (arXiv:1704.00784), eq. 16"
    examples = (_EXAMPLE,)
    axes: ClassVar[dict[str, int]] = {**Additive.axes, "g": 1}

    def __init__(self, v: Array, g: Array, *more: Any, **options: Any) -> None:
        super().__init__(v, *more, **options)
        self.parameters = {"g": parameter("g", g, (1,), "the length of the vector, of shape (1,)"), **self.parameters}

    @classmethod
    def drawn(
        cls, query_width: int, key_width: int, *, width: int, activation: Activation = "tanh", bias: bool = True,
        rng: np.random.Generator, dtype: Any = np.float32,
    ) -> Self:  # fmt: skip
        """Return one to begin training with, with a layer of `width` between."""
        plain = Additive.drawn(
            query_width, key_width, width=width, activation=activation, bias=bias, rng=rng, dtype=dtype
        )
        return cls(g=np.full(1, width**-0.5, plain.vector().dtype), activation=activation, **plain.parameters)

    def vector(self) -> Array:
        return cosine_operand(self.parameters["v"][None])[0][0] * self.parameters["g"][0]

    def vector_gradients(self, d_vector: Array) -> ByName:
        unit, inverse = cosine_operand(self.parameters["v"][None])
        d_v = cosine_operand_vjp(unit, inverse, (d_vector * self.parameters["g"][0])[None])[0]
        return {"g": linear.matmul(unit, d_vector[:, None])[0], "v": d_v}

    @staticmethod
    def formula(p: ByName, query: Array, key: Array, scale: float, *, activation: str = "tanh") -> Array:
        v = p["g"] * p["v"] / np.sqrt((p["v"] ** 2).sum())
        return Additive.formula({**p, "v": v}, query, key, scale, activation=activation)
