"""Attention without a query: a sequence becomes one vector."""

from typing import Any

import numpy as np

from fastattn.attention import AttentionOutput
from fastattn.errors import ArgumentError, DTypeError, describe
from fastattn.scores import Additive
from fastattn.variants.protocol.checks import NormalizerLike
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.variant import Array, AttentionState, Prepared
from fastattn.variants.soft import Soft

__all__ = ["Pooling"]


class _Unasked(Additive):
    """An additive score of keys alone: its query is zero."""

    def __init__(self, v: Array, w_query: Array | None, *more: Any) -> None:
        super().__init__(v, None, *more)

    def check(self, query: Array, key: Array) -> None:
        super().check(self.project_query(query), key)

    def project_query(self, query: Array) -> Array:
        return np.zeros((*query.shape[:-1], len(self.parameters["v"])), query.dtype)

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        return np.zeros_like(query)


class Pooling(Soft):
    """``weights = softmax_j(v . tanh(memory_j W + b))``, v learnt (Yang et al. 2016, equations 5 to 7).

    Parameters
    ----------
    query_width : int
        0, since there is none: queries are (B, Tq, 0), and every one gets the same context.
    memory_width : int
    width : int
        Da, of the layer between; memory_width in the paper.
    normalizer : str, mapping or Normalizer
        As of `Soft`.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    trained : dict of str to Parameter
        W ("w_key"), b ("b"), and "v", shape (Da,), the paper's u_w, "what is the informative word".

    Notes
    -----
    Yang, Yang, Dyer, He, Smola, Hovy, "Hierarchical Attention Networks for Document Classification", NAACL 2016.
    thinc's `ParametricAttention` has no layer between.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("pooling", memory_width=5, width=8, rng=np.random.default_rng(0))
    >>> variant.pool(variant.prepare(np.ones((2, 4, 5), np.float32), lengths=np.array([4, 2]))).shape
    (2, 5)
    """

    name = "pooling"

    def __init__(
        self,
        *,
        query_width: int = 0,
        memory_width: int,
        width: int,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        if query_width != 0:
            hint = "use 'additive' for attention with a query."
            raise ArgumentError(describe("query_width", "0", query_width, hint))
        score = _Unasked.drawn(0, memory_width, width=width, bias=True, rng=rng, dtype=dtype)
        super().__init__(score, query_width=query_width, memory_width=memory_width, normalizer=normalizer, dtype=dtype)

    def forward(
        self, queries: Array, prepared: Any = None, *, state: AttentionState | None = None, return_weights: bool = False
    ) -> Array | AttentionOutput:
        if prepared is None:
            hint = "there is no query: call pool(variant.prepare(memory))."
            raise DTypeError(describe("prepared", "what prepare() returned", "nothing", hint))
        return super().forward(queries, prepared, state=state, return_weights=return_weights)

    def pool(self, prepared: Prepared) -> Array:
        """Return the one context (B, Dv); its backward pass is that of `vjp` with queries (B, 1, 0)."""
        check_prepared(prepared, self)
        found: Any = self.forward(np.empty((prepared.batch, 1, 0), self.dtype), prepared)
        context: Array = found[:, 0]
        return context
