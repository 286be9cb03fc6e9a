"""Location-sensitive attention: the weights of the step before are convolved into the scores."""

import math
from typing import Any, Literal

import numpy as np

from fastattn._arrays import float_dtype
from fastattn._numbers import check_flag, finite_number
from fastattn.errors import ArgumentError, describe
from fastattn.layers import Parameter
from fastattn.variants.protocol.checks import check_choice, check_size
from fastattn.variants.protocol.prepared import check_prepared
from fastattn.variants.protocol.variant import Array, Prepared
from fastattn.variants.recall import Recall, RecallPrepared, RecallState

__all__ = ["LocationSensitive"]


class LocationSensitive(Recall):
    """Attention of Chorowski, Bahdanau, Serdyuk, Cho, Bengio 2015 (arXiv:1506.07503), equations 8 and 9.

    ::

        f_i  = F * alpha_{i-1}                                                  (8)
        e_ij = w . tanh(W s_{i-1} + V h_j + U f_ij + b)                         (9)
        alpha_ij = exp(beta e_ij) / sum_k exp(beta e_ik)      or, smoothed, sigmoid(e_ij) / sum_k sigmoid(e_ik)

    Parameters
    ----------
    query_width, memory_width : int
    width : int
        Da, of the layer between.
    filters : int
        C rows of F; 10 in the paper.
    filter_size : int
        K, their odd width, centred on the key; 201 in the paper.
    smoothing : bool
        Sigmoids in place of exponentials (section 2.3), so that attention spreads over more frames.
    sharpening : float
        beta, the inverse temperature (section 2.3).
    window : int, optional
        Only keys at most this far from the median of alpha_{i-1} are read (section 2.3, "windowing").
    cumulative : bool
        Convolve the sum of all earlier weights, as Tacotron 2 does (Shen et al. 2018), not the last ones.
    initial : {"zeros", "uniform"}
        alpha_0, which the paper leaves open; ESPnet starts uniform over the length, others with zeros.
    rng : numpy.random.Generator
    dtype : dtype

    Attributes
    ----------
    query, key : Linear
        W and V with b, transposed.
    v : Parameter, shape (Da,)
        w of the paper.
    u : Parameter, shape (C, Da)
        U, transposed.
    filters : Parameter, shape (C, K)
        F; element k of a row multiplies the weight of position j + k - (K - 1) / 2.

    Notes
    -----
    The window's middle has no gradient. A first step with zeros has its window at the beginning.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> variant = fastattn.create("location_sensitive", query_width=3, memory_width=5, width=8, filters=4,
    ...                           filter_size=3, rng=np.random.default_rng(0))
    >>> prepared = variant.prepare(np.ones((2, 6, 5), np.float32))
    >>> state = variant.start(prepared)
    >>> context, weights, state = variant.step(np.ones((2, 3), np.float32), prepared, state)
    >>> context.shape, state.history.shape
    ((2, 5), (2, 6))
    """

    name = "location_sensitive"

    def __init__(
        self,
        *,
        query_width: int,
        memory_width: int,
        width: int,
        filters: int = 10,
        filter_size: int = 201,
        smoothing: bool = False,
        sharpening: float = 1.0,
        window: int | None = None,
        cumulative: bool = False,
        initial: Literal["zeros", "uniform"] = "zeros",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        check_size("filters", filters)
        if check_size("filter_size", filter_size) % 2 == 0:
            hint = "its middle is the key itself."
            raise ArgumentError(describe("filter_size", "an odd number", filter_size, hint))
        sharpening = finite_number("sharpening", sharpening, float_dtype(dtype), "1.0 is none.")
        smoothing, cumulative = check_flag("smoothing", smoothing), check_flag("cumulative", cumulative)
        if smoothing and sharpening != 1:
            hint = "smoothing spreads the weights, sharpening the opposite."
            raise ArgumentError(describe("sharpening", "1.0 with smoothing", sharpening, hint))
        super().__init__(query_width, memory_width, width, filters, rng, dtype)
        self.smoothing, self.scale, self.cumulative = smoothing, sharpening, cumulative
        self.window = None if window is None else check_size("window", window, 0)
        self.initial = check_choice("initial", initial, ("zeros", "uniform"))
        bound = math.sqrt(3 / filter_size)
        self.filters = Parameter(rng.uniform(-bound, bound, (filters, filter_size)).astype(dtype))

    def start(self, prepared: Prepared) -> RecallState:
        check_prepared(prepared, self)
        history = np.zeros(prepared.shape, self.dtype)
        if self.initial == "uniform":
            allowed = prepared.allowed()
            counts = np.maximum(allowed.sum(axis=-1, keepdims=True), 1)
            history[...] = np.where(allowed, 1 / counts, 0)
        previous = history if self.cumulative and self.window is not None else None
        return RecallState(history, previous, shape=prepared.shape)

    def _advance(self, prepared: RecallPrepared, state: RecallState, weights: Array) -> RecallState:
        if not self.cumulative:
            return RecallState(weights, shape=state.shape)
        previous = None if state.previous is None else weights
        return RecallState(state.history + weights, previous, shape=state.shape)

    def _advance_vjp(
        self, prepared: RecallPrepared, weights: Array, d_state: RecallState
    ) -> tuple[Array, Array | None]:
        return d_state.history, d_state.history if self.cumulative else None
