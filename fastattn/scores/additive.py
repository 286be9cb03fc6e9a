"""Additive scores: a small feed-forward network with one hidden layer, computed without its hidden layer in memory."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from fastattn import linear
from fastattn.errors import ArgumentError, ShapeError, describe, did_you_mean
from fastattn.scores.base import (
    KERNEL_ADDITIVE,
    Array,
    OperandGradients,
    Operands,
    ProjectedGradients,
    Score,
    parameter,
)

__all__ = ["Additive", "Concat"]

_ACTIVATIONS = ("tanh", "sigmoid", "relu")


class Additive(Score):
    """``score_ij = v . act(q_i w_query + k_j w_key + b)`` (Bahdanau, Cho, Bengio 2015, appendix A.1.2).

    Without projections, query and key are taken as projected already, of width Da. For tanh and sigmoid the kernel
    needs ``(Tq + Tk) Da`` exponentials and about five operations for each of the ``Tq Tk Da`` terms; nothing of that
    size is stored, forward or backward.

    Parameters
    ----------
    v : array, shape (Da,)
    w_query : array, shape (Dq, Da), optional
    w_key : array, shape (Dk, Da), optional
    b : array, shape (Da,), optional
    activation : {"tanh", "sigmoid", "relu"}
    softcap : float, optional
        Scores become ``softcap * tanh(score / softcap)``.

    Notes
    -----
    The paper has no bias `b` and only tanh; toolkits differ in both.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> q, k = np.ones((2, 3), np.float32), np.ones((4, 5), np.float32)
    >>> score = fastattn.scores.Additive(
    ...     v=np.ones(8, np.float32), w_query=np.ones((3, 8), np.float32), w_key=np.ones((5, 8), np.float32))
    >>> fastattn.attention(q, k, k, score=score).shape
    (2, 5)
    """

    name = "additive"
    kernel = KERNEL_ADDITIVE
    axes: ClassVar[dict[str, int]] = {"v": 1, "w_query": 2, "w_key": 2, "b": 1}

    def __init__(
        self,
        v: Array,
        w_query: Array | None = None,
        w_key: Array | None = None,
        b: Array | None = None,
        activation: str = "tanh",
        *,
        softcap: float | None = None,
    ) -> None:
        super().__init__(softcap=softcap)
        self.parameters = {"v": parameter("v", v, (None,), "the vector of v . act(...), of shape (Da,)")}
        width = self.parameters["v"].shape[0]
        if w_query is not None:
            self.parameters["w_query"] = parameter("w_query", w_query, (None, width), "of shape (Dq, Da), with v's Da")
        if w_key is not None:
            self.parameters["w_key"] = parameter("w_key", w_key, (None, width), "of shape (Dk, Da), with v's Da")
        if b is not None:
            self.parameters["b"] = parameter("b", b, (width,), "of shape (Da,), as v is")
        self.activation = activation
        self.activation_code = _activation_code(activation)

    def check(self, query: Array, key: Array) -> None:
        width = self.parameters["v"].shape[0]
        for argument, array, name in (("query", query, "w_query"), ("key", key, "w_key")):
            w = self.parameters.get(name)
            wanted = width if w is None else w.shape[0]
            if array.shape[-1] != wanted:
                reason = "without projections it is the width of v" if w is None else f"that is what {name} takes"
                hint = f"{reason}; pass {name} of shape (D, Da)."
                raise ShapeError(describe(argument, f"width {wanted}", f"shape {array.shape}", hint))
        _check_width(self.parameters)

    def query_weight(self, query_width: int) -> Array | None:
        return self.parameters.get("w_query")

    def project_query(self, query: Array, product: Callable[[Array], Array] | None = None) -> Array:
        q = super().project_query(query, product)
        return q + self.parameters["b"] if "b" in self.parameters else q

    def project_key(self, key: Array) -> Array:
        return linear.matmul(key, self.parameters["w_key"]) if "w_key" in self.parameters else key

    def project_vjp(self, operands: Operands, d: OperandGradients, scale: float) -> ProjectedGradients:
        d_query, d_key, _, d_vector = d
        assert d_vector is not None
        query, key = operands.saved
        p = self.parameters
        gradients = {"v": d_vector}
        if "w_query" in p:
            gradients["w_query"] = linear.weight_gradient(query, d_query)
        if "w_key" in p:
            gradients["w_key"] = linear.weight_gradient(key, d_key)
        if "b" in p:
            gradients["b"] = linear.row_sum(d_query)
        if "w_query" in p:
            d_query = linear.matmul(d_query, p["w_query"].T)
        if "w_key" in p:
            d_key = linear.matmul(d_key, p["w_key"].T)
        return d_query, d_key, gradients


class Concat(Score):
    """``score_ij = v . act([q_i; k_j] w)`` (Luong, Pham, Manning 2015, section 3.1, "concat").

    The same form as `Additive`: the first Dq rows of `w` act on the query, the others on the key.

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
    kernel = KERNEL_ADDITIVE
    axes: ClassVar[dict[str, int]] = {"w": 2, "v": 1}

    def __init__(self, w: Array, v: Array, activation: str = "tanh", *, softcap: float | None = None) -> None:
        super().__init__(softcap=softcap)
        v = parameter("v", v, (None,), "the vector of v . act(...), of shape (Da,)")
        w = parameter("w", w, (None, v.shape[0]), "of shape (Dq + Dk, Da), with v's Da")
        self.parameters = {"w": w, "v": v}
        self.activation = activation
        self.activation_code = _activation_code(activation)

    def check(self, query: Array, key: Array) -> None:
        wanted, got = query.shape[-1] + key.shape[-1], self.parameters["w"].shape
        if got[0] != wanted:
            expected = f"{wanted} rows, the widths of query and key together"
            raise ShapeError(describe("w", expected, f"shape {got}", "w is (Dq + Dk, Da)."))
        _check_width(self.parameters)

    def query_weight(self, query_width: int) -> Array:
        return self.parameters["w"][:query_width]

    def project_key(self, key: Array) -> Array:
        w = self.parameters["w"]
        return linear.matmul(key, w[w.shape[0] - key.shape[-1] :])

    def project_vjp(self, operands: Operands, d: OperandGradients, scale: float) -> ProjectedGradients:
        d_query, d_key, _, d_vector = d
        assert d_vector is not None
        query, key = operands.saved
        w = self.parameters["w"]
        split = query.shape[-1]
        d_w = np.concatenate([linear.weight_gradient(query, d_query), linear.weight_gradient(key, d_key)])
        return (
            linear.matmul(d_query, w[:split].T),
            linear.matmul(d_key, w[split:].T),
            {"w": d_w, "v": d_vector},
        )


def _check_width(parameters: dict[str, Array]) -> None:
    """Raise unless all parameters, which may have been replaced since the score was made, have the Da of v."""
    width = parameters["v"].shape[0]
    for name, array in parameters.items():
        if array.shape[-1] != width:
            hint = "make a new score for other parameters."
            raise ShapeError(describe(name, f"last size {width}, that of v", f"shape {array.shape}", hint))


def _activation_code(name: str) -> int:
    if str(name) in _ACTIVATIONS:
        return _ACTIVATIONS.index(str(name))
    hint = did_you_mean(name, _ACTIVATIONS)
    raise ArgumentError(describe("activation", f"one of {', '.join(_ACTIVATIONS)}", repr(name), hint))
