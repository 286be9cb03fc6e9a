"""Layer normalization."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array, cast, float_array, gradient_array
from fastattn._kernels import core
from fastattn._numbers import check_size, number_in
from fastattn.errors import DTypeError, ShapeError, describe
from fastattn.layers.parameter import Layer, Parameter

__all__ = ["LayerNorm"]


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
        width = check_size("width", width, 0)
        self.gain = Parameter(np.ones(width, dtype))
        self.offset = Parameter(np.zeros(width, dtype))
        self.epsilon = number_in("epsilon", epsilon, "1e-5 is usual.", least=0)

    def forward(self, x: Array) -> Array:
        """Return x (..., N) normalized."""
        y = core.layer_normalized(x, self.gain._array, self.offset._array, self.epsilon)
        if y is not None:
            return y
        x = float_array("x", x)
        return self._normalize(self._rows(x))[0].reshape(x.shape)

    def _forward_sum(self, x: Array, y: Array) -> Array:
        """Return ``forward(x + y)``; y, which nobody else has, may be overwritten."""
        found = core.layer_normalized(x, self.gain._array, self.offset._array, self.epsilon, y)
        if found is not None:
            return found
        core.add_scaled(x, 1.0, y)
        return self.forward(y)

    def vjp(self, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        """Return ``forward(x)``, and the function from its gradient to that of x.

        ``d_x = (g - mean(g) - normal * mean(g * normal)) / sqrt(variance + epsilon)`` with ``g = gain * d_y``; d_gain
        and d_offset are summed over rows in ascending order. Where a row of d_y is zero, that row of x is not read.
        x is not copied: leave its numbers as they are until then.
        """
        x = float_array("x", x)
        shape, x = x.shape, self._rows(x)
        y, mean, inverse = self._normalize(x)
        gain, offset = self.gain, self.offset

        def backward(dy: Array) -> Array:
            rows = core.unit(gradient_array("dy", dy, shape, x.dtype).reshape(x.shape))
            dx = np.empty(shape, x.dtype)
            core.layer_norm_backward(
                x, gain._array, mean, inverse, rows, dx.reshape(x.shape), gain._gradient, offset._gradient
            )
            return dx

        return y.reshape(shape), backward

    def _rows(self, x: Array) -> Array:
        gain = self.gain._array
        if x.ndim < 1 or x.shape[-1] != gain.size:
            hint = f"the layer was made for width {gain.size}."
            raise ShapeError(describe("x", f"last size {gain.size}", f"shape {x.shape}", hint))
        if x.dtype.char != gain.dtype.char:
            raise DTypeError(describe("x", f"dtype {gain.dtype}, that of the layer", x.dtype, cast("x", x, gain.dtype)))
        return core.unit(x.reshape(math.prod(x.shape[:-1]), gain.size))

    def _normalize(self, x: Array) -> tuple[Array, Array, Array]:
        y, mean, inverse = np.empty(x.shape, x.dtype), np.empty(len(x), x.dtype), np.empty(len(x), x.dtype)
        core.layer_norm(x, self.gain._array, self.offset._array, self.epsilon, y, mean, inverse)
        return y, mean, inverse
