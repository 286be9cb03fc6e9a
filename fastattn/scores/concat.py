"""Concat scores: additive ones with one matrix for query and key."""

from typing import Any, ClassVar, cast

import numpy as np

from fastattn import linear
from fastattn.errors import ShapeError, describe
from fastattn.scores.additive import Activation, Additive, activation_code, check_width
from fastattn.scores.base import KERNEL_ADDITIVE, Array, ByName, Score, normal, parameter

__all__ = ["Concat"]


def _stacked(rng: np.random.Generator, query: int, key: int, dtype: Any) -> Array:
    return rng.normal(size=(query + key, 7)).astype(dtype)


class Concat(Score):
    """``score_ij = v . act([q_i; k_j] w)`` (Luong, Pham, Manning 2015, section 3.1, "concat").

    The same form as `Additive`: the first Dq rows of `w` act on the query, the others on the key, and as these two
    blocks it is trained.

    Parameters
    ----------
    w : array, shape (Dq + Dk, Da)
    v : array, shape (Da,)
    activation : {"tanh", "sigmoid", "relu"}
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, k = np.ones((2, 3), np.float32), np.ones((4, 5), np.float32)
    >>> score = fastattn.scores.Concat(w=np.ones((8, 6), np.float32), v=np.ones(6, np.float32))
    >>> fastattn.attention(q, k, k, score=score).shape
    (2, 5)
    """

    name = "concat"
    summary = "v . act([q; k] w)"
    paper = "Luong, Pham, Manning 2015 (arXiv:1508.04025), section 3.1"
    examples = ({"w": _stacked, "v": normal(7)},)
    kernel = KERNEL_ADDITIVE
    one_width = False
    axes: ClassVar[dict[str, int]] = {"w": 2, "v": 1}

    def __init__(self, w: Array, v: Array, activation: Activation = "tanh", *, softcap: float | None = None) -> None:
        super().__init__(softcap=softcap)
        v = parameter("v", v, (None,), "the vector of v . act(...), of shape (Da,)")
        w = parameter("w", w, (None, v.shape[0]), "of shape (Dq + Dk, Da), with v's Da")
        self.parameters = {"w": w, "v": v}
        self.activation, self.activation_code = activation, activation_code(activation)

    @classmethod
    def drawn(
        cls, query_width: int, key_width: int, *, width: int, activation: Activation = "tanh", rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> Additive:  # fmt: skip
        """Return one to begin training with, its w as two blocks of rows."""
        made = Additive.drawn(query_width, key_width, width=width, activation=activation, rng=rng, dtype=dtype)
        made.name = cls.name
        return made

    def blocks(self, query_width: int) -> Additive:
        """Return the same score with the rows of w that act on the query, and the others, apart."""
        w, v = (self.parameters[name] for name in ("w", "v"))
        activation = cast(Activation, self.activation)
        return Additive(v, w[:query_width], w[query_width:], activation=activation, softcap=self.softcap)

    def keep(self, key_width: int) -> Score:
        """As `Score.keep`."""
        return self.blocks(self._split(key_width)).keep(key_width)

    def _split(self, key_width: int) -> int:
        return max(len(self.parameters["w"]) - key_width, 0)

    def check(self, query: Array, key: Array) -> None:
        wanted, got = query.shape[-1] + key.shape[-1], self.parameters["w"].shape
        if got[0] != wanted:
            expected = f"{wanted} rows, the widths of query and key together"
            raise ShapeError(describe("w", expected, f"shape {got}", "w is (Dq + Dk, Da)."))
        check_width(self.parameters)

    def project_query(self, query: Array) -> Array:
        return self.blocks(query.shape[-1]).project_query(query)

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        return self.blocks(query.shape[-1]).query_vjp(query, d_projected)

    def query_gradients(self, query: Array, d_projected: Array) -> ByName:
        d_w = np.zeros_like(self.parameters["w"])
        d_w[: query.shape[-1]] = linear.weight_gradient(query, d_projected)
        return {"w": d_w}

    def project_key(self, key: Array) -> Array:
        return self.blocks(self._split(key.shape[-1])).project_key(key)

    def key_vjp(self, key: Array, d_projected: Array) -> Array:
        return self.blocks(self._split(key.shape[-1])).key_vjp(key, d_projected)

    def key_gradients(self, key: Array, d_projected: Array) -> ByName:
        d_w = np.zeros_like(self.parameters["w"])
        d_w[self._split(key.shape[-1]) :] = linear.weight_gradient(key, d_projected)
        return {"w": d_w}

    def vector(self) -> Array:
        return self.parameters["v"]

    def vector_gradients(self, d_vector: Array) -> ByName:
        return {"v": d_vector}

    @staticmethod
    def formula(p: ByName, query: Array, key: Array, scale: float, *, activation: str = "tanh") -> Array:
        split = query.shape[-1]
        parts = {"w_query": p["w"][:split], "w_key": p["w"][split:], "v": p["v"]}
        return Additive.formula(parts, query, key, scale, activation=activation)
