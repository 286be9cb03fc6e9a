"""Global soft attention with scores that are dot products."""

import math
from typing import Any

import numpy as np

from fastattn import linear
from fastattn._numbers import finite_number
from fastattn.errors import ShapeError, describe
from fastattn.layers import Parameter
from fastattn.scores.dot import cosine_operand, cosine_operand_vjp
from fastattn.variants.protocol.checks import NormalizerLike, check_size
from fastattn.variants.protocol.variant import Array
from fastattn.variants.soft import Soft

__all__ = ["Cosine", "Dot", "General", "Location", "ScaledDot"]


class Dot(Soft):
    """``score_j = scale * query . memory_j`` (Luong, Pham, Manning 2015, section 3.1, "dot").

    Parameters
    ----------
    query_width, memory_width : int
        The same.
    scale : float
        Of the scores; 1 in the paper.
    normalizer : str, mapping or Normalizer
        "softmax", "sparsemax", "entmax15", ...: as of `Soft`.
    rng : numpy.random.Generator, optional
        Not used: there are no parameters.
    dtype : dtype

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("dot", query_width=4, memory_width=4)
    >>> prepared = variant.prepare(np.ones((2, 5, 4), np.float32), lengths=np.array([5, 3]))
    >>> variant.forward(np.ones((2, 3, 4), np.float32), prepared).shape
    (2, 3, 4)
    """

    name = "dot"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        scale: float | None = None,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype, normalizer)
        if query_width != memory_width:
            hint = "use 'general', which has a matrix between them."
            raise ShapeError(describe("memory_width", f"{query_width}, that of queries", memory_width, hint))
        given = self._default_scale() if scale is None else scale
        self.scale = finite_number("scale", given, self.dtype, "leave it out.")

    def _default_scale(self) -> float:
        return 1.0


class ScaledDot(Dot):
    """``score_j = query . memory_j / sqrt(D)`` (Vaswani et al. 2017, equation 1); parameters as of `Dot`."""

    name = "scaled_dot"

    def _default_scale(self) -> float:
        return 1 / math.sqrt(max(self.query_width, 1))


class Cosine(Dot):
    """``score_j = scale * query . memory_j / (|query| |memory_j|)`` (Graves, Wayne, Danihelka 2014, equations 5 and 6).

    `scale` is the paper's key strength beta, which there comes from the controller. A zero vector scores 0. Parameters
    as of `Dot`.
    """

    name = "cosine"

    def _key(self, memory: Array) -> Array:
        return cosine_operand(memory)[0]

    def _key_vjp(self, memory: Array, key: Array, d_key: Array) -> Array:
        return cosine_operand_vjp(*cosine_operand(memory), d_key)

    def _project(self, query: Array) -> Array:
        return cosine_operand(query)[0]

    def _project_vjp(self, query: Array, projected: Array, d_projected: Array) -> Array:
        return cosine_operand_vjp(*cosine_operand(query), d_projected)


class General(Soft):
    """``score_j = query w memory_j`` (Luong, Pham, Manning 2015, section 3.1, "general"; "bilinear" elsewhere).

    Parameters
    ----------
    query_width, memory_width : int
    normalizer : str, mapping or Normalizer
        As of `Soft`.
    rng : numpy.random.Generator
        w starts uniform in +-sqrt(3 / Dm).
    dtype : dtype

    Attributes
    ----------
    w : Parameter, shape (Dq, Dm)

    Notes
    -----
    The matrix acts on the query, B Dq Dm multiply-adds a step: the keys are the memory itself, and a memory of S
    positions, longer than there are steps, is not multiplied by it.
    """

    name = "general"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype, normalizer)
        bound = math.sqrt(3 / max(memory_width, 1))
        self.w = Parameter(rng.uniform(-bound, bound, (query_width, memory_width)).astype(dtype))

    def _project(self, query: Array) -> Array:
        return self.w.packed().matmul(query)

    def _project_vjp(self, query: Array, projected: Array, d_projected: Array) -> Array:
        return self.w.packed().matmul_transposed(d_projected)

    def _gather(self, queries: Array, d_projected: Array) -> None:
        linear.weight_gradient(queries, d_projected, self.w.gradient)


class Location(Soft):
    """``score_j = (query w)_j`` (Luong, Pham, Manning 2015, equation 8): the memory is summed, not compared.

    Parameters
    ----------
    query_width, memory_width : int
    longest : int
        The most positions of a memory; those beyond have no weights.
    normalizer : str, mapping or Normalizer
        As of `Soft`.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    w : Parameter, shape (Dq, longest)
        The transpose of the paper's.
    """

    name = "location"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        longest: int = 200,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, dtype, normalizer)
        self.longest = check_size("longest", longest)
        bound = math.sqrt(3 / max(query_width, 1))
        self.w = Parameter(rng.uniform(-bound, bound, (query_width, longest)).astype(dtype))

    def _location(self, keys: int) -> linear.PackedWeights:
        if keys > self.longest:
            hint = "make the variant with a larger longest=, or shorten the memory."
            raise ShapeError(describe("memory", f"at most {self.longest} positions", keys, hint))
        return linear.PackedWeights(self.w.value[:, :keys])

    def _location_vjp(self, queries: Array, d_scores: Array) -> None:
        self.w.gradient[:, : d_scores.shape[-1]] += linear.weight_gradient(queries, d_scores)

    def _key(self, memory: Array) -> Array:
        return memory[..., :0]

    def _key_vjp(self, memory: Array, key: Array, d_key: Array) -> Array:
        return np.zeros_like(memory)

    def _project(self, query: Array) -> Array:
        return query[..., :0]
