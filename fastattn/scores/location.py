"""Location scores: from the query and the position of the key alone."""

from typing import Any, ClassVar, Self

import numpy as np

from fastattn import linear
from fastattn._numbers import check_size
from fastattn.errors import ShapeError, describe
from fastattn.scores.base import Array, ByName, Score, normal, parameter, uniform

__all__ = ["Location"]


class Location(Score):
    """``score_ij = (q_i w)_j`` (Luong, Pham, Manning 2015, section 3.1, "location"): the keys are not read.

    Parameters
    ----------
    w : array, shape (Dq, Tmax)
        One column for each position; a memory of Tk <= Tmax keys uses the first Tk.
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.

    Notes
    -----
    The scores themselves are the output of one matrix product, so this score does hold `(..., Tq, Tk)` numbers.
    The paper's matrix is the transpose of `w`. Trained, w starts uniform in +-sqrt(3 / Dq).

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, v = np.ones((2, 3), np.float32), np.ones((4, 5), np.float32)
    >>> fastattn.attention(q, v, v, score=fastattn.scores.Location(np.ones((3, 10), np.float32))).shape
    (2, 5)
    """

    name = "location"
    summary = "(q w)_j"
    paper = "Luong, Pham, Manning 2015 (arXiv:1508.04025), eq. 8"
    examples = ({"w": normal("query", 80)},)
    one_width = False
    axes: ClassVar[dict[str, int]] = {"w": 2}

    def __init__(self, w: Array, *, softcap: float | None = None) -> None:
        super().__init__(softcap=softcap)
        self.parameters = {"w": parameter("w", w, (None, None), "of shape (Dq, Tmax), one column a position")}

    @classmethod
    def drawn(
        cls, query_width: int, key_width: int, *, longest: int = 200, rng: np.random.Generator, dtype: Any = np.float32
    ) -> Self:
        """Return one to begin training with, for memories of up to `longest` positions."""
        return cls(uniform(rng, query_width, check_size("longest", longest), dtype))

    @property
    def longest(self) -> int:
        """The number of columns."""
        return self.parameters["w"].shape[1]

    def check(self, query: Array, key: Array) -> None:
        rows, columns = self.parameters["w"].shape
        if rows != query.shape[-1]:
            raise ShapeError(
                describe("w", f"{query.shape[-1]} rows, query's width", f"shape {(rows, columns)}", "w is (Dq, Tmax).")
            )
        if columns < key.shape[-2]:
            hint = "use a w made for longer memories, or shorten the memory."
            expected = f"at least {key.shape[-2]} columns, one for each key"
            raise ShapeError(describe("w", expected, f"shape {(rows, columns)}", hint))

    def project_query(self, query: Array) -> Array:
        return query[..., :0]

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        return np.zeros_like(query)

    def project_key(self, key: Array) -> Array:
        return key[..., :0]

    def key_vjp(self, key: Array, d_projected: Array) -> Array:
        return np.zeros_like(key)

    def location(self, keys: int) -> Array:
        w = self.parameters["w"]
        if w.shape[1] < keys:
            hint = "make the variant with a larger longest=, or shorten the memory."
            raise ShapeError(describe("memory", f"at most {w.shape[1]} positions", keys, hint))
        return w[:, :keys]

    def location_gradients(self, query: Array, d_scores: Array) -> ByName:
        d_w = np.zeros(self.parameters["w"].shape, query.dtype)
        d_w[:, : d_scores.shape[-1]] = linear.weight_gradient(query, d_scores)
        return {"w": d_w}

    @staticmethod
    def formula(parameters: ByName, query: Array, key: Array, scale: float) -> Array:
        return scale * (query @ parameters["w"][:, : key.shape[-2]])
