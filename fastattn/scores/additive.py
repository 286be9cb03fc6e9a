"""Additive scores: a small feed-forward network with one hidden layer, computed without its hidden layer in memory."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np

from fastattn import linear
from fastattn._arrays import float_dtype
from fastattn._numbers import check_flag, check_size
from fastattn.errors import ArgumentError, ShapeError, describe, did_you_mean
from fastattn.scores.base import KERNEL_ADDITIVE, Array, ByName, Score, normal, parameter, uniform

__all__ = ["Additive"]

Activation = Literal["tanh", "sigmoid", "relu"]
_ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
_EXAMPLE = {"v": normal(7), "w_query": normal("query", 7), "w_key": normal("key", 7)}


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
    The paper has no bias `b` and only tanh; toolkits differ in both. Trained, as ``fastattn.create("additive", width=,
    activation=, bias=)``, matrices start uniform in +-sqrt(3 / inputs); keys and their exponentials are made once for a
    memory. Keras' `AdditiveAttention` has neither matrix.

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
    summary = "v . act(q w_query + k w_key + b)"
    paper = "Bahdanau, Cho, Bengio 2015 (arXiv:1409.0473), A.1.2"
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        _EXAMPLE, {**_EXAMPLE, "b": normal(7), "activation": "sigmoid"}, {**_EXAMPLE, "softcap": 2.0},
    )  # fmt: skip
    kernel = KERNEL_ADDITIVE
    one_width = False
    trained_names: Mapping[str, str] = {"w_query": "query.w", "w_key": "key.w", "b": "key.b"}
    axes: ClassVar[dict[str, int]] = {"v": 1, "w_query": 2, "w_key": 2, "b": 1}

    def __init__(
        self,
        v: Array,
        w_query: Array | None = None,
        w_key: Array | None = None,
        b: Array | None = None,
        activation: Activation = "tanh",
        *,
        softcap: float | None = None,
    ) -> None:
        super().__init__(softcap=softcap)
        v = parameter("v", v, (None,), "the vector of v . act(...), of shape (Da,)")
        width = v.shape[0]
        if w_query is not None:
            self.parameters["w_query"] = parameter("w_query", w_query, (None, width), "of shape (Dq, Da), with v's Da")
        if w_key is not None:
            self.parameters["w_key"] = parameter("w_key", w_key, (None, width), "of shape (Dk, Da), with v's Da")
        if b is not None:
            self.parameters["b"] = parameter("b", b, (width,), "of shape (Da,), as v is")
        self.parameters["v"] = v
        self.activation, self.activation_code = activation, activation_code(activation)

    @classmethod
    def drawn(
        cls, query_width: int, key_width: int, *, width: int, activation: Activation = "tanh", bias: bool = False,
        rng: np.random.Generator, dtype: Any = np.float32,
    ) -> Self:  # fmt: skip
        """Return one to begin training with, with a layer of `width` between."""
        check_size("width", width)
        w_query, w_key = (uniform(rng, inputs, width, dtype) for inputs in (query_width, key_width))
        v = (rng.uniform(-1, 1, width) * math.sqrt(3 / width)).astype(dtype)
        return cls(
            v, w_query, w_key, np.zeros(width, float_dtype(dtype)) if check_flag("bias", bias) else None, activation
        )

    def check(self, query: Array, key: Array) -> None:
        self._check_input("query", "w_query", query.shape)
        self._check_input("key", "w_key", key.shape)
        if len(self.parameters) > 1:
            check_width(self.parameters)

    def keep(self, key_width: int) -> Score:
        """As `Score.keep`."""
        self._check_input("key", "w_key", (key_width,))
        return super().keep(key_width)

    def _check_input(self, argument: str, name: str, shape: tuple[int, ...]) -> None:
        w = self.parameters.get(name)
        wanted = self.parameters["v"].shape[0] if w is None else w.shape[0]
        if shape[-1] != wanted:
            reason = "without projections it is the width of v" if w is None else f"that is what {name} takes"
            hint = f"{reason}; pass {name} of shape (D, Da)."
            got = f"shape {shape}" if shape[1:] else f"width {shape[0]}"
            raise ShapeError(describe(argument, f"width {wanted}", got, hint))

    def project_query(self, query: Array) -> Array:
        return self.matmul("w_query", query) if "w_query" in self.parameters else query

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        return self.matmul_transposed("w_query", d_projected) if "w_query" in self.parameters else d_projected

    def query_gradients(self, query: Array, d_projected: Array) -> ByName:
        return {"w_query": linear.weight_gradient(query, d_projected)} if "w_query" in self.parameters else {}

    def project_key(self, key: Array) -> Array:
        b = self.parameters.get("b")
        if "w_key" in self.parameters:
            return self.matmul("w_key", key, b)
        return key if b is None else key + b

    def key_vjp(self, key: Array, d_projected: Array) -> Array:
        return self.matmul_transposed("w_key", d_projected) if "w_key" in self.parameters else d_projected

    def key_gradients(self, key: Array, d_projected: Array) -> ByName:
        found = {}
        if "w_key" in self.parameters:
            found["w_key"] = linear.weight_gradient(key, d_projected)
        if "b" in self.parameters:
            found["b"] = linear.row_sum(d_projected)
        return found

    def vector(self) -> Array:
        return self.parameters["v"]

    def vector_gradients(self, d_vector: Array) -> ByName:
        return {"v": d_vector}

    @staticmethod
    def formula(p: ByName, query: Array, key: Array, scale: float, *, activation: str = "tanh") -> Array:
        q, k = (x @ p[name] if name in p else x for name, x in (("w_query", query), ("w_key", key)))
        return scale * act(activation, q[..., :, None, :] + k[..., None, :, :] + p.get("b", 0.0)) @ p["v"]


def act(name: str, x: Array) -> Array:
    """Return an activation in plain NumPy, for formulas."""
    return np.tanh(x) if name == "tanh" else np.maximum(x, 0) if name == "relu" else 1 / (1 + np.exp(-x))


def check_width(parameters: dict[str, Array]) -> None:
    """Raise unless all parameters, which may have been replaced since the score was made, have the Da of v."""
    width = parameters["v"].shape[0]
    for name, array in parameters.items():
        if name != "g" and array.shape[-1] != width:
            hint = "make a new score for other parameters."
            raise ShapeError(describe(name, f"last size {width}, that of v", f"shape {array.shape}", hint))


def activation_code(name: str) -> int:
    """Return the kernels' number of an activation, or raise."""
    if str(name) in _ACTIVATIONS:
        return _ACTIVATIONS.index(str(name))
    hint = did_you_mean(name, _ACTIVATIONS)
    raise ArgumentError(describe("activation", f"one of {', '.join(_ACTIVATIONS)}", repr(name), hint))
