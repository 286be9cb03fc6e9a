"""Location scores: from the query and the position of the key alone."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from fastattn import functional, linear
from fastattn.errors import ShapeError, describe
from fastattn.scores.base import Array, OperandGradients, Operands, ProjectedGradients, Score, parameter

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
    The paper's matrix is the transpose of `w`.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, v = np.ones((2, 3), np.float32), np.ones((4, 5), np.float32)
    >>> fastattn.attention(q, v, v, score=fastattn.scores.Location(np.ones((3, 10), np.float32))).shape
    (2, 5)
    """

    name = "location"
    axes: ClassVar[dict[str, int]] = {"w": 2}

    def __init__(self, w: Array, *, softcap: float | None = None) -> None:
        super().__init__(softcap=softcap)
        self.parameters = {"w": parameter("w", w, (None, None), "of shape (Dq, Tmax), one column a position")}

    def check(self, query: Array, key: Array) -> None:
        rows, columns = self.parameters["w"].shape
        if rows != query.shape[-1]:
            raise ShapeError(
                describe("w", f"{query.shape[-1]} rows, query's width", f"shape {(rows, columns)}", "w is (Dq, Tmax).")
            )
        if columns < key.shape[-2]:
            raise ShapeError(
                describe(
                    "w",
                    f"at least {key.shape[-2]} columns, one for each key",
                    f"shape {(rows, columns)}",
                    "use a w made for longer memories, or shorten the memory.",
                )
            )

    def project_query(self, query: Array, product: Callable[[Array], Array] | None = None) -> Array:
        return query[..., :0]

    def project_key(self, key: Array) -> Array:
        return key[..., :0]

    def project_bias(self, query: Array, columns: int, scale: float) -> Array:
        scores = linear.matmul(query, self.parameters["w"][:, :columns])
        scores *= scores.dtype.type(scale)
        if self.softcap:
            scores /= self.softcap
            functional.tanh(scores, out=scores)
            scores *= self.softcap
        return scores

    def project_vjp(self, operands: Operands, d: OperandGradients, scale: float) -> ProjectedGradients:
        d_bias = d.bias
        assert operands.bias is not None and d_bias is not None
        query, key = operands.saved
        w = self.parameters["w"]
        columns = key.shape[-2]
        if self.softcap:
            slope = 1 - (operands.bias / self.softcap) ** 2
            d_bias = np.where(d_bias == 0, d_bias, d_bias * slope)  # slope is NaN where a masked query is
        d_scores = d_bias * d_bias.dtype.type(scale)
        d_w = np.zeros(w.shape, query.dtype)
        d_w[:, :columns] = linear.weight_gradient(query, d_scores)
        return linear.matmul(d_scores, w[:, :columns].T), np.zeros_like(key), {"w": d_w}
