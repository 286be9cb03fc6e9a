"""Coverage: scores know how much attention each position has had."""

from typing import Any

import numpy as np

from fastattn import functional, linear
from fastattn._numbers import check_number
from fastattn.errors import ArgumentError, describe
from fastattn.layers import Parameter
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.variant import Array, MemoryGradient, Prepared
from fastattn.variants.recall import Recall, RecallPrepared, RecallState

__all__ = ["Coverage"]


class Coverage(Recall):
    """Attention of See, Liu, Manning 2017 (arXiv:1704.04368), equations 10 and 11; or of Tu et al. 2016.

    ::

        c^t = sum_{t' < t} a^{t'}                                               (10)
        e_i^t = v . tanh(W_h h_i + W_s s_t + w_c c_i^t + b)                     (11)

    With `fertility` N, as in Tu, Lu, Liu, Liu, Li 2016 (arXiv:1601.04811), section 3.1.1, attention counts by the
    share of what a position is expected to need::

        C_i^t = C_i^{t-1} + a_i^t / Phi_i,     Phi_i = N sigmoid(h_i . u_f)

    Parameters
    ----------
    query_width, memory_width : int
    width : int
        Da, of the layer between.
    fertility : float, optional
        N, the most that a position may need, 2 in the paper; None: coverage of See et al.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    query, key : Linear
        W_s and W_h with b, transposed.
    v : Parameter, shape (Da,)
    u : Parameter, shape (1, Da)
        w_c; V_a of Tu et al.
    fertility : Parameter, shape (Dm, 1), or None
        u_f.

    Notes
    -----
    The loss of equation 12 is `coverage_loss`. See et al. train without coverage first and then add it with the loss
    weighted by lambda = 1. Tu et al. have no b, and a second kind of coverage, a recurrent network at each position:
    `NeuralCoverage`. OpenNMT-py adds its coverage to the memory instead of the hidden layer of the score.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("coverage", query_width=3, memory_width=5, width=8, rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((2, 4, 5), np.float32))
    >>> output = variant.forward(np.ones((2, 6, 3), np.float32), prepared, return_weights=True)
    >>> output.context.shape, output.weights.shape
    ((2, 6, 5), (2, 6, 4))
    """

    name = "coverage"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        width: int,
        fertility: float | None = None,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(query_width, memory_width, width, 1, rng, dtype)
        self.most, self.fertility = fertility, None
        if fertility is not None:
            if not 0 < check_number("fertility", fertility, "2 is the paper's.") < np.inf:
                hint = "2 is the paper's; leave it out for coverage without fertility."
                raise ArgumentError(describe("fertility", "a positive number or None", fertility, hint))
            self.fertility = Parameter(np.zeros((memory_width, 1), dtype))

    def extend(self, prepared: Prepared) -> RecallPrepared:
        made = super().extend(prepared)
        if self.fertility is not None:
            # Where nothing may be read no weight will be: any number does, but not NaN.
            read = made.allowed()[..., None]
            share = functional.sigmoid(self.fertility.packed().matmul(np.where(read, made.memory, 0)))
            # A share that vanishes would make 0 / 0 of a weight of 0.
            made.phi = np.maximum(share[..., 0], np.finfo(self.dtype).tiny) * self.dtype.type(self.most)
        return made

    def _phi(self, prepared: RecallPrepared) -> Array:
        phi: Array = prepared.phi
        return phi if prepared.rows is None else phi[prepared.rows]

    def _advance(self, prepared: RecallPrepared, state: RecallState, weights: Array) -> RecallState:
        if self.fertility is None:
            return RecallState(state.history + weights, shape=state.shape)
        return RecallState(state.history + weights / self._phi(prepared), shape=state.shape)

    def _advance_vjp(
        self, prepared: RecallPrepared, weights: Array, d_state: RecallState
    ) -> tuple[Array, Array | None]:
        d_history = d_state.history
        if self.fertility is None:
            return d_history, d_history
        phi = self._phi(prepared)
        prepared.sums["phi"] -= d_history * (weights / phi) * (1 - phi / self.dtype.type(self.most))
        return d_history / phi, d_history

    def _zeros(self, prepared: Prepared) -> dict[str, Array]:
        sums = super()._zeros(prepared)
        return sums if self.fertility is None else {**sums, "phi": np.zeros(prepared.shape, self.dtype)}

    def finish(self, prepared: RecallPrepared) -> MemoryGradient:
        check_prepared(prepared, self)
        d_inner = prepared.sums.total().get("phi")
        gradient = super().finish(prepared)
        if self.fertility is None or d_inner is None:
            return gradient
        d_inner = d_inner[..., None]
        linear.weight_gradient(prepared.memory, d_inner, self.fertility.gradient)
        d_memory = self.fertility.packed().matmul_transposed(d_inner)
        return (gradient[0] + d_memory, gradient[1]) if isinstance(gradient, tuple) else gradient + d_memory
