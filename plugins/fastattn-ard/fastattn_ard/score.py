"""The score in Python: checks, and calls of the compiled loops."""

import numpy as np

from fastattn import linear
from fastattn.errors import ShapeError, describe
from fastattn.scores import Score
from fastattn.scores.base import parameter
from fastattn_ard import loops

__all__ = ["Ard", "formula"]


class Ard(Score):
    """``score_ij = -sum_c (w_c (q_ic - k_jc))^2`` (Neal 1996, of inputs to a Gaussian process).

    Parameters
    ----------
    w : array, shape (D,)
    softcap : float, optional

    Notes
    -----
    With ``[2 w^2 q, -|w q|^2, -1]`` and ``[k, 1, |w k|^2]`` it is a dot product, which fastattn's kernels compute;
    rounding is relative to the two squares.
    """

    name = "ard"

    def __init__(self, w, *, softcap=None):
        super().__init__(softcap=softcap)
        self.parameters = {"w": parameter("w", w, (None,), "one scale for each channel, of shape (D,)")}

    @classmethod
    def drawn(cls, query_width, key_width, *, rng, dtype=np.float32):
        """Where training begins."""
        return cls(rng.uniform(0.5, 1.5, key_width).astype(dtype))

    def check(self, query, key):
        """Raise unless query and key have as many channels as w."""
        width = self.parameters["w"].shape[0]
        for name, array in (("query", query), ("key", key)):
            if array.shape[-1] != width:
                raise ShapeError(describe(name, f"width {width}, that of w", f"shape {array.shape}", "project it."))

    def _operand(self, x, side):
        out = np.empty((*x.shape[:-1], x.shape[-1] + 2), x.dtype)
        loops.operand(np.ascontiguousarray(x), np.ascontiguousarray(self.parameters["w"]), side, out)
        return out

    def _operand_vjp(self, x, side, d_operand):
        w, d_x, d_w = np.ascontiguousarray(self.parameters["w"]), np.empty(x.shape, x.dtype), np.empty(x.shape, x.dtype)
        loops.operand_vjp(np.ascontiguousarray(x), w, side, np.ascontiguousarray(d_operand), d_x, d_w)
        return d_x, {"w": linear.row_sum(d_w)}

    def project_query(self, query):
        """[2 w^2 q, -|w q|^2, -1]."""
        return self._operand(query, 0)

    def query_vjp(self, query, d_projected):
        """The gradient of the query."""
        return self._operand_vjp(query, 0, d_projected)[0]

    def query_gradients(self, query, d_projected):
        """The query's part of the gradient of w."""
        return self._operand_vjp(query, 0, d_projected)[1]

    def project_key(self, key):
        """[k, 1, |w k|^2]."""
        return self._operand(key, 1)

    def key_vjp(self, key, d_projected):
        """The gradient of the key."""
        return self._operand_vjp(key, 1, d_projected)[0]

    def key_gradients(self, key, d_projected):
        """The key's part of the gradient of w."""
        return self._operand_vjp(key, 1, d_projected)[1]


def formula(parameters, query, key, scale):
    """The same in plain NumPy, for the conformance kit."""
    return -((parameters["w"] * (query[:, :, None] - key[:, None])) ** 2).sum(-1)
