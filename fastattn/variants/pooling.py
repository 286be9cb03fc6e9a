"""Attention without a query: a sequence becomes one vector."""

from collections.abc import Callable
from typing import Any, Literal, overload

import numpy as np

from fastattn import linear
from fastattn._arrays import float_dtype
from fastattn._numbers import check_size
from fastattn.attention import AttentionOutput
from fastattn.errors import ArgumentError, DTypeError, describe
from fastattn.scores import Additive, Score
from fastattn.scores.base import uniform
from fastattn.variants.protocol.backward import check_cotangents
from fastattn.variants.protocol.checks import NormalizerLike
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.variant import Array, AttentionState, MemoryGradient
from fastattn.variants.soft import Soft, SoftPrepared

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


class _Weighed(Score):
    """A dot product of keys with one learnt vector, whatever the query."""

    one_width = False

    def __init__(self, v: Array) -> None:
        super().__init__()
        self.parameters = {"v": v}

    def check(self, query: Array, key: Array) -> None:
        super().check(self.project_query(query), key)

    def project_query(self, query: Array) -> Array:
        return np.tile(self.parameters["v"], (*query.shape[:-1], 1))

    def query_vjp(self, query: Array, d_projected: Array) -> Array:
        return np.zeros_like(query)

    def query_gradients(self, query: Array, d_projected: Array) -> dict[str, Array]:
        return {"v": linear.row_sum(d_projected)}


class Pooling(Soft):
    """``weights = softmax_j(v . tanh(memory_j W + b))``, v learnt (Yang et al. 2016, equations 5 to 7).

    With ``width=None`` there is no layer between, ``weights = softmax_j(v . memory_j)``: ``softmax(Dense(1)(states))``
    over the positions, as in Keras, without the b of that layer, which changes no softmax.

    Parameters
    ----------
    query_width : int
        0, since there is none: queries are (B, Tq, 0), and every one gets the same context.
    memory_width : int
    width : int or None
        Da, of the layer between; memory_width in the paper. None: there is none.
    normalizer : str, mapping or Normalizer
        As of `Soft`.
    rng : numpy.random.Generator
        May be left out where there is no layer between: v then starts at 0, and all positions have the same weight.
    dtype : dtype

    Attributes
    ----------
    trained : dict of str to Parameter
        W ("w_key"), b ("b"), and "v", shape (Da,), the paper's u_w, "what is the informative word". With no layer
        between only "v", shape (Dm,).

    Notes
    -----
    Yang, Yang, Dyer, He, Smola, Hovy, "Hierarchical Attention Networks for Document Classification", NAACL 2016.
    thinc's `ParametricAttention` has no layer between either. Without it the work is 4 S Dm operations for a sample.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("pooling", memory_width=5, width=8, rng=np.random.default_rng(0))
    >>> states, lengths = np.ones((2, 4, 5), np.float32), np.array([4, 2])
    >>> variant.pool(variant.prepare(states, lengths)).shape
    (2, 5)
    >>> variant = fastattn.create("pooling", memory_width=5, width=None)  # softmax(Dense(1)(states))
    >>> pooled, backward = variant.pool_vjp(variant.prepare(states, lengths), return_weights=True)
    >>> pooled.weights
    array([[0.25, 0.25, 0.25, 0.25],
           [0.5 , 0.5 , 0.  , 0.  ]], dtype=float32)
    >>> d_states = backward(np.ones_like(pooled.context))
    >>> d_states.shape, variant.parameters()["v"].gradient.shape
    ((2, 4, 5), (5,))
    """

    name = "pooling"

    def __init__(
        self,
        *,
        query_width: int = 0,
        memory_width: int,
        width: int | None,
        normalizer: NormalizerLike = "softmax",
        rng: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        if query_width != 0:
            hint = "use 'additive' for attention with a query."
            raise ArgumentError(describe("query_width", "0", query_width, hint))
        score: Score
        if width is None:
            v = np.zeros(check_size("memory_width", memory_width, 0), float_dtype(dtype))
            score = _Weighed(v if rng is None else uniform(rng, len(v), 1, dtype)[:, 0])
        elif rng is None:
            hint = "pass rng=np.random.default_rng(0), or width=None for no layer between."
            raise ArgumentError(describe("rng", "a numpy.random.Generator", rng, hint))
        else:
            score = _Unasked.drawn(0, memory_width, width=width, bias=True, rng=rng, dtype=dtype)
        super().__init__(score, query_width=query_width, memory_width=memory_width, normalizer=normalizer, dtype=dtype)

    def forward(
        self, queries: Array, prepared: Any = None, *, state: AttentionState | None = None, return_weights: bool = False
    ) -> Array | AttentionOutput:
        if prepared is None:
            hint = "there is no query: call pool(variant.prepare(memory))."
            raise DTypeError(describe("prepared", "what prepare() returned", "nothing", hint))
        return super().forward(queries, prepared, state=state, return_weights=return_weights)

    @overload
    def pool(self, prepared: SoftPrepared, *, return_weights: Literal[False] = False) -> Array: ...
    @overload
    def pool(self, prepared: SoftPrepared, *, return_weights: bool) -> Array | AttentionOutput: ...
    def pool(self, prepared: SoftPrepared, *, return_weights: bool = False) -> Array | AttentionOutput:
        """Return the one context (B, Dv); with weights, an `AttentionOutput` whose weights are (B, S)."""
        return _first(self.forward(self._unasked(prepared), prepared, return_weights=return_weights))

    def pool_vjp(
        self, prepared: SoftPrepared, *, return_weights: bool = False
    ) -> tuple[Array | AttentionOutput, Callable[..., MemoryGradient]]:
        """Return what `pool` does, and the function from its gradients to that of the memory.

        Returns
        -------
        output : array or AttentionOutput
        backward : callable
            ``backward(d_context=None, d_weights=None) -> d_memory``, a pair where there are values; `d_weights` needs
            ``return_weights=True``. It adds to the gradients of the parameters, and is to be called once.
        """
        found, back = self.vjp(self._unasked(prepared), prepared, return_weights=return_weights)
        output = _first(found)

        def backward(d_context: Array | None = None, d_weights: Array | None = None) -> MemoryGradient:
            d_context, d_weights = check_cotangents(output, d_context, d_weights)
            return back(d_context[:, None], None if d_weights is None else d_weights[:, None])[1]

        return output, backward

    def _unasked(self, prepared: SoftPrepared) -> Array:
        check_prepared(prepared, self)
        return np.empty((prepared.batch, 1, 0), self.dtype)


def _first(found: Array | AttentionOutput) -> Array | AttentionOutput:
    """Return what the only query found, without its axis."""
    return found[:, 0] if isinstance(found, np.ndarray) else AttentionOutput(found.context[:, 0], found.weights[:, 0])
