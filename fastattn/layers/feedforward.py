"""The position-wise feed-forward network of the Transformer."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn._numbers import check_choice
from fastattn.layers.activations import NAMES, Activation, activate, slope
from fastattn.layers.affine import Linear
from fastattn.layers.dropout import dropout_vjp
from fastattn.layers.parameter import Layer

__all__ = ["FeedForward"]


class FeedForward(Layer):
    """``y = f(x W_1 + b_1) W_2 + b_2``.

    Parameters
    ----------
    width, hidden : int
        Size of x's and y's last axis, and of the layer between them.
    activation : {"relu", "gelu", "swish"}
        f: ``max(a, 0)``; ``a Phi(a)`` with the standard normal's distribution function (Hendrycks and Gimpel 2016,
        arXiv:1606.08415), not its approximation by tanh; or ``a sigmoid(a)`` (Ramachandran et al. 2017,
        arXiv:1710.05941, with beta 1; "silu" to others).
    rng : numpy.random.Generator
        For the start of W_1, then of W_2.
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    inner, outer : Linear

    Notes
    -----
    Vaswani et al. 2017, equation 2, with relu. Work 4 M D H operations for M rows, twice that backward; the (M, H)
    hidden values are stored, and but for relu those before it. A row has the same bits in any batch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import FeedForward
    >>> layer = FeedForward(4, 16, rng=np.random.default_rng(0))
    >>> y, backward = layer.vjp(np.ones((2, 3, 4), np.float32))
    >>> backward(np.ones_like(y)).shape, list(layer.parameters())
    ((2, 3, 4), ['inner.w', 'inner.b', 'outer.w', 'outer.b'])
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        activation: Activation = "relu",
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        self.activation = check_choice("activation", activation, NAMES)
        self.inner = Linear(width, hidden, rng=rng, dtype=dtype)
        self.outer = Linear(hidden, width, rng=rng, dtype=dtype)

    def forward(self, x: Array) -> Array:
        """Return the network's output for x (..., D)."""
        return self.outer.forward(self._hidden(x)[0])

    def _hidden(self, x: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return the hidden values, and the function that makes their gradient that of what f was applied to."""
        b, relu = self.inner.b, self.activation == "relu"
        a = self.inner.w.packed().matmul(x, bias=None if b is None else b._array, relu=relu)
        if relu:
            return a, lambda dh: core.relu_backward(a, dh)

        def backward(dh: Array) -> None:
            dh *= slope(self.activation, a)

        return activate(self.activation, a), backward

    def vjp(self, x: Array, *, rate: float = 0.0, seed: Any = None) -> tuple[Array, Callable[[Array], Array]]:
        """Return ``forward(x)``, and the function from its gradient to that of x.

        With `rate`, the hidden values are dropped as by `dropout` with `seed`; the first axis is that of samples.
        """
        (h, activated), inner = self._hidden(x), self.inner.backward(x)
        if rate:
            h, undrop = dropout_vjp(h, rate, seed)
        y, outer = self.outer.vjp(h)

        def backward(dy: Array) -> Array:
            dh = outer(dy)
            if rate:
                dh = undrop(dh)
            activated(dh)
            return inner(dh)

        return y, backward
