"""Bilinear scores: a dot product through a matrix."""

from typing import Any, ClassVar, Self

import numpy as np

from fastattn import linear
from fastattn.errors import ShapeError, describe
from fastattn.scores.base import Array, ByName, Score, normal, parameter, uniform

__all__ = ["General"]


class General(Score):
    """``score_ij = q_i w k_j`` (Luong, Pham, Manning 2015, section 3.1, "general"; "bilinear" elsewhere).

    Parameters
    ----------
    w : array, shape (Dq, Dk)
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.

    Notes
    -----
    The matrix acts on the query, Dq Dk multiply-adds for each: the keys are the memory itself, and one of many
    positions, more than there are queries, is not multiplied by it. Trained, it starts uniform in +-sqrt(3 / Dk).

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, k = np.ones((2, 3), np.float32), np.ones((4, 5), np.float32)
    >>> fastattn.attention(q, k, k, score=fastattn.scores.General(np.ones((3, 5), np.float32))).shape
    (2, 5)
    """

    name = "general"
    summary = "q w k"
    paper = "Luong, Pham, Manning 2015 (arXiv:1508.04025), section 3.1"
    examples = ({"w": normal("query", "key")},)
    axes: ClassVar[dict[str, int]] = {"w": 2}
    one_width = False

    def __init__(self, w: Array, *, softcap: float | None = None) -> None:
        super().__init__(softcap=softcap)
        self.parameters = {"w": parameter("w", w, (None, None), "the matrix of q w k, of shape (Dq, Dk)")}

    def check(self, query: Array, key: Array) -> None:
        wanted, got = (query.shape[-1], key.shape[-1]), self.parameters["w"].shape
        if wanted != got:
            raise ShapeError(
                describe("w", f"shape {wanted}, the widths of query and key", f"shape {got}", "w is (Dq, Dk).")
            )

    @classmethod
    def drawn(cls, query_width: int, key_width: int, *, rng: np.random.Generator, dtype: Any = np.float32) -> Self:
        """Return one to begin training with."""
        return cls(uniform(rng, query_width, key_width, dtype, key_width))

    def project_query(self, query: Array) -> Array:
        return self.matmul("w", query)

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        return self.matmul_transposed("w", d_projected)

    def query_gradients(self, query: Array, d_projected: Array) -> ByName:
        return {"w": linear.weight_gradient(query, d_projected)}

    @staticmethod
    def formula(parameters: ByName, query: Array, key: Array, scale: float) -> Array:
        return scale * (query @ parameters["w"] @ key.swapaxes(-1, -2))
