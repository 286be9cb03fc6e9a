"""Local attention: a window of the memory around one position, which steps along or is predicted."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastattn import functional, linear
from fastattn.layers import Linear, Parameter
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.state import per_sample
from fastattn.variants.protocol.variant import Array, AttentionState, Prepared
from fastattn.variants.windowed import Local, LocalPrepared, LocalRun, LocalStep

__all__ = ["LocalM", "LocalP", "LocalState"]


@dataclass(frozen=True)
class LocalState(AttentionState):
    """How many steps each sample has made, int64 (B,)."""

    position: Array = field(metadata=per_sample(dtype=np.int64))


class LocalM(Local):
    """Monotonic alignment, local-m (Luong, Pham, Manning 2015, section 3.2): p_t = t and g = 1.

    Parameters
    ----------
    query_width, memory_width : int
    window : int
        D; 10 in the paper.
    score : {"dot", "general", "concat"}
        As of `luong`.
    width : int, optional
        For "concat".
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    align : Soft
        With the parameters of the score.

    Notes
    -----
    t counts from 0. Where the window has left the memory the context is zero.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("local_m", query_width=3, memory_width=5, window=1, rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((1, 6, 5), np.float32))
    >>> variant.forward(np.zeros((1, 2, 3), np.float32), prepared, return_weights=True).weights
    array([[[0.5       , 0.5       , 0.        , 0.        , 0.        , 0.        ],
            [0.33333334, 0.33333334, 0.33333334, 0.        , 0.        , 0.        ]]], dtype=float32)
    """

    name = "local_m"
    states = (LocalState,)

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        window: int = 10,
        score: str = "general",
        width: int | None = None,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, window, score, width, rng, dtype)

    def start(self, prepared: Prepared) -> LocalState:
        check_prepared(prepared, self)
        return LocalState(np.zeros(prepared.batch, np.int64), shape=prepared.shape)

    def _positions(self, queries: Array, prepared: Prepared, state: Any) -> Array:
        return state.position[:, None] + np.arange(queries.shape[1], dtype=np.float64)

    def _after(self, state: Any, steps: int) -> LocalState:
        return LocalState(state.position + steps, shape=state.shape)


class LocalP(Local):
    """Predictive alignment, local-p (Luong, Pham, Manning 2015, equations 9 and 10).

    ::

        p_t = S sigmoid(v_p . tanh(W_p h_t))                                    (9)
        a_t(s) = align(h_t, m_s) exp(-(s - p_t)^2 / (2 sigma^2)),  sigma = D/2  (10)

    with S the length of the sample, and align a softmax over the window. Gradients reach the position through the
    Gaussian; that of the window's edges is zero.

    Parameters
    ----------
    query_width, memory_width, window, score, width, rng, dtype
        As of `LocalM`.

    Attributes
    ----------
    align : Soft
    position : Linear
        Its w (Dq, Dq) is W_p, transposed.
    v_p : Parameter, shape (Dq, 1)

    Notes
    -----
    As in the paper weights are not normalised again, so that they sum to less than 1. s counts from 0.
    """

    name = "local_p"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        window: int = 10,
        score: str = "general",
        width: int | None = None,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, window, score, width, rng, dtype)
        self.position = Linear(query_width, query_width, bias=False, rng=rng, dtype=dtype)
        bound = math.sqrt(3 / max(query_width, 1))
        self.v_p = Parameter(rng.uniform(-bound, bound, (query_width, 1)).astype(dtype))

    def _inner(self, queries: Array) -> Array:
        return functional.tanh(self.position.forward(queries))

    def _positions(self, queries: Array, prepared: Prepared, state: AttentionState) -> Array:
        share = functional.sigmoid(self.v_p.packed().matmul(self._inner(queries))[..., 0])
        return share * prepared.lengths[:, None].astype(self.dtype)

    def _middle(self, positions: Array) -> Array:
        # The factor makes all of the window NaN.
        return np.where(positions == positions, positions, self.dtype.type(0))

    def _apart(self, positions: Array, keys: int) -> Array:
        return np.arange(keys, dtype=self.dtype) - positions[..., None]

    def _factor(self, positions: Array, keys: int) -> Array:
        apart = self._apart(positions, keys)
        return functional.exp(apart * apart * self.dtype.type(-2 / self.window**2))

    def _positions_vjp(self, run: LocalRun, prepared: LocalPrepared, d_factor: Array, left: LocalStep) -> Array:
        positions = run.positions
        # Where nothing was read d_factor is 0, and no sum of NumPy's own order is taken: padding must not matter.
        slopes = d_factor * run.factor * self._apart(positions, prepared.keys) * self.dtype.type(4 / self.window**2)
        d_position = np.cumsum(slopes, axis=-1)[..., -1] if prepared.keys else np.zeros_like(positions)
        lengths = np.maximum(prepared.lengths, 1)[:, None].astype(self.dtype)
        d_outer = (d_position * positions * (1 - positions / lengths))[..., None]
        inner = self._inner(run.queries)
        d_inner = self.v_p.packed().matmul_transposed(d_outer) * (1 - inner * inner)
        left.inner, left.d_inner, left.d_outer = inner, d_inner, d_outer
        return self.position.w.packed().matmul_transposed(d_inner)

    def _gather(self, steps: LocalStep) -> None:
        linear.weight_gradient(steps.inner, steps.d_outer, self.v_p.gradient)
        linear.weight_gradient(steps.queries, steps.d_inner, self.position.w.gradient)
