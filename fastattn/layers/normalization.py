"""Layer normalization."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn._arrays import float_array
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe
from fastattn.layers.parameter import Layer, Parameter

__all__ = ["LayerNorm"]

Array = NDArray[Any]


class LayerNorm(Layer):
    """``y = gain * (x - mean) / sqrt(variance + epsilon) + offset`` over the last axis.

    Parameters
    ----------
    width : int
        Size N of the last axis.
    epsilon : float
        Added to the variance, which is that of the row itself (divided by N).
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    gain, offset : Parameter, shape (N,)
        1 and 0 at the start.

    Notes
    -----
    Ba, Kiros, Hinton 2016, equations 3 and 4; they have no epsilon. The variance is taken in a second pass, of the
    differences from the mean. Work is that of a few passes over x. A row has the same bits in any batch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import LayerNorm
    >>> layer = LayerNorm(2)
    >>> y, backward = layer.vjp(np.array([[1.0, 3.0]], np.float32))
    >>> dx = backward(np.array([[1.0, 0.0]], np.float32))
    >>> y.round(3), layer.gain.gradient.round(3), layer.offset.gradient
    (array([[-1.,  1.]], dtype=float32), array([-1.,  0.], dtype=float32), array([1., 0.], dtype=float32))
    """

    def __init__(self, width: int, *, epsilon: float = 1e-5, dtype: Any = np.float32) -> None:
        if not epsilon >= 0:
            raise ArgumentError(describe("epsilon", "a number from 0 up", epsilon, "1e-5 is usual."))
        self.gain = Parameter(np.ones(width, dtype))
        self.offset = Parameter(np.zeros(width, dtype))
        self.epsilon = float(epsilon)

    def forward(self, x: Array) -> Array:
        """Return x (..., N) normalized."""
        x = self._rows(x)
        normal, _ = self._normal(x)
        return normal * self.gain.value + self.offset.value

    def vjp(self, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        """Return ``forward(x)``, and the function from its gradient to that of x.

        ``d_x = (g - mean(g) - normal * mean(g * normal)) / sqrt(variance + epsilon)`` with ``g = gain * d_y``; d_gain
        and d_offset are summed over rows in ascending order. Where a row of d_y is zero, that row of x is not read.
        """
        x = self._rows(x)
        normal, inverse = self._normal(x)

        def backward(dy: Array) -> Array:
            dy = np.ascontiguousarray(float_array("dy", dy))
            if dy.shape != x.shape:
                hint = "pass the gradient of the output."
                raise ShapeError(describe("dy", f"shape {x.shape}, that of the output", f"shape {dy.shape}", hint))
            if dy.dtype != x.dtype:
                raise DTypeError(describe("dy", f"dtype {x.dtype}", dy.dtype, f"pass dy.astype(np.{x.dtype})."))
            read = dy.any(axis=-1, keepdims=True)
            u = np.where(read, normal, 0)
            self.gain.accumulate(linear.row_sum(u * dy))
            self.offset.accumulate(linear.row_sum(dy))
            g = self.gain.value * dy
            dx = g - g.mean(axis=-1, keepdims=True) - u * (g * u).mean(axis=-1, keepdims=True)
            return np.where(read, dx * inverse, 0)

        return normal * self.gain.value + self.offset.value, backward

    def _rows(self, x: Array) -> Array:
        x = float_array("x", x)
        gain = self.gain.value
        if x.ndim < 1 or x.shape[-1] != gain.size:
            hint = f"the layer was made for width {gain.size}."
            raise ShapeError(describe("x", f"last size {gain.size}", f"shape {x.shape}", hint))
        if x.dtype.char != gain.dtype.char:
            hint = f"pass x.astype(np.{gain.dtype})."
            raise DTypeError(describe("x", f"dtype {gain.dtype}, that of the layer", x.dtype, hint))
        return np.ascontiguousarray(x, gain.dtype)

    def _normal(self, x: Array) -> tuple[Array, Array]:
        apart = x - x.mean(axis=-1, keepdims=True)
        inverse = 1 / np.sqrt((apart * apart).mean(axis=-1, keepdims=True) + x.dtype.type(self.epsilon))
        return apart * inverse, inverse
