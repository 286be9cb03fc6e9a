"""Global soft attention with additive scores, whose hidden layer is never in memory."""

import math
from typing import Any

import numpy as np

from fastattn import linear
from fastattn._arrays import float_dtype
from fastattn.layers import Linear, Parameter
from fastattn.scores import Additive as AdditiveScore
from fastattn.scores.base import Score
from fastattn.scores.dot import cosine_operand, cosine_operand_vjp
from fastattn.variants.protocol.checks import NormalizerLike, check_size
from fastattn.variants.protocol.variant import Array
from fastattn.variants.soft import Soft

__all__ = ["Additive", "Concat", "NormedAdditive", "bahdanau"]


class Additive(Soft):
    """``score_j = v . act(query W_q + memory_j W_m + b)`` (Bahdanau, Cho, Bengio 2015, appendix A.1.2).

    Parameters
    ----------
    query_width, memory_width : int
    width : int
        Da, of the layer between.
    activation : {"tanh", "sigmoid", "relu"}
        tanh in the paper.
    bias : bool
        Whether there is a b; the paper has none, OpenNMT has one.
    normalizer : str, mapping or Normalizer
        "softmax", "sparsemax", "entmax15", ...: as of `Soft`.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    query : Linear
        Its w (Dq, Da) is the paper's W_a, transposed.
    key : Linear
        Its w (Dm, Da) is U_a, transposed; its b is b.
    v : Parameter, shape (Da,)

    Notes
    -----
    The memory's product and the exponentials of the keys are made in `prepare`; a step needs B Dq Da multiply-adds for
    the query. Keras' `AdditiveAttention` has neither matrix.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("additive", query_width=3, memory_width=5, width=8, rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((2, 4, 5), np.float32))
    >>> context, weights, state = variant.step(np.ones((2, 3), np.float32), prepared, variant.start(prepared))
    >>> context.shape, weights[0]
    ((2, 5), array([0.25, 0.25, 0.25, 0.25], dtype=float32))
    """

    name = "additive"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        width: int,
        activation: str = "tanh",
        bias: bool = False,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype, normalizer)
        self.width, self.activation = check_size("width", width), activation
        self.query = Linear(query_width, width, bias=False, rng=rng, dtype=dtype)
        self.key = Linear(memory_width, width, bias=bias, rng=rng, dtype=dtype)
        self.v = Parameter((rng.uniform(-1, 1, width) * math.sqrt(3 / width)).astype(dtype))
        self._score()

    def _vector(self) -> Array:
        return self.v.value

    def _score(self) -> Score:
        return AdditiveScore(self._vector(), activation=self.activation)

    def _vector_vjp(self, d_vector: Array) -> None:
        self.v.accumulate(d_vector)

    def _key(self, memory: Array) -> Array:
        return self.key.forward(memory)

    def _key_vjp(self, memory: Array, key: Array, d_key: Array) -> Array:
        b = self.key.b
        linear.weight_gradient(memory, d_key, self.key.w.gradient, sums=None if b is None else b.gradient)
        return self.key.w.packed().matmul_transposed(d_key)

    def _project(self, query: Array) -> Array:
        return self.query.forward(query)

    def _project_vjp(self, query: Array, projected: Array, d_projected: Array) -> Array:
        return self.query.w.packed().matmul_transposed(d_projected)

    def _gather(self, queries: Array, d_projected: Array) -> None:
        linear.weight_gradient(queries, d_projected, self.query.w.gradient)


class Concat(Additive):
    """``score_j = v . tanh([query; memory_j] W)`` (Luong, Pham, Manning 2015, section 3.1, "concat").

    W is kept as its two blocks of rows: `query` acts on the query and `key` on the memory. Parameters as of `Additive`.
    """

    name = "concat"


class NormedAdditive(Additive):
    """``score_j = g v / |v| . tanh(query W_q + memory_j W_m + b)`` (Raffel et al. 2017, equation 16, without r).

    The score's offset r of the paper moves all scores alike, which our normalizers do not see. g starts at 1 / sqrt(Da)
    and b at zero, as in TensorFlow's `BahdanauAttention(normalize=True)`; the norm of v has no effect.

    Parameters
    ----------
    query_width, memory_width, width, activation, normalizer, rng, dtype
        As of `Additive`.

    Attributes
    ----------
    g : Parameter, shape (1,)
    query, key, v
        As of `Additive`, with b.
    """

    name = "normed_additive"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        width: int,
        activation: str = "tanh",
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        self.g = Parameter(np.full(1, check_size("width", width) ** -0.5, float_dtype(dtype)))
        super().__init__(
            query_width=query_width, memory_width=memory_width, width=width, activation=activation, bias=True,
            normalizer=normalizer, rng=rng, dtype=dtype,
        )  # fmt: skip

    def _vector(self) -> Array:
        return cosine_operand(self.v.value[None])[0][0] * self.g.value[0]

    def _vector_vjp(self, d_vector: Array) -> None:
        unit, inverse = cosine_operand(self.v.value[None])
        self.g.accumulate(linear.matmul(unit, d_vector[:, None])[0])
        self.v.accumulate(cosine_operand_vjp(unit, inverse, (d_vector * self.g.value[0])[None])[0])


def bahdanau(
    *,
    query_width: int,
    memory_width: int,
    width: int,
    normalizer: NormalizerLike = "softmax",
    rng: np.random.Generator,
    dtype: Any = np.float32,
) -> Additive:
    """Return the attention of Bahdanau, Cho and Bengio 2015, section 3.1: `Additive` as published.

    ``e_ij = v . tanh(W_a s_{i-1} + U_a h_j)``, ``alpha_ij = softmax_j(e_ij)`` (equation 6) and
    ``c_i = sum_j alpha_ij h_j`` (equation 5); the query is the state before the step. The
    paper's normalizer is softmax.
    """
    return Additive(
        query_width=query_width, memory_width=memory_width, width=width, normalizer=normalizer, rng=rng, dtype=dtype
    )
