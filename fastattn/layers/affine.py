"""The affine map ``y = x w + b``."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from fastattn import precision
from fastattn._arrays import Array, gradient_array
from fastattn._numbers import check_flag, check_size
from fastattn.layers.parameter import Layer, Parameter

__all__ = ["Linear"]


class Linear(Layer):
    """``y = x w + b``.

    Parameters
    ----------
    inputs, outputs : int
        Widths K and N.
    bias : bool
        Whether there is a b, zero at the start.
    rng : numpy.random.Generator
        w starts uniform in +-sqrt(3 / K), so that outputs vary as much as inputs (LeCun et al. 1998, section 4.6).
    dtype : dtype
        float32 or float64.

    Attributes
    ----------
    w : Parameter, shape (K, N)
    b : Parameter, shape (N,), or None

    Notes
    -----
    Work 2 M K N operations for M rows, twice that backward. A row has the same bits in any batch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Linear
    >>> layer = Linear(3, 2, rng=np.random.default_rng(0))
    >>> y, backward = layer.vjp(np.ones((4, 3), np.float32))
    >>> backward(np.ones_like(y)).shape, layer.b.gradient
    ((4, 3), array([4., 4.], dtype=float32))
    """

    _matrices: ClassVar[tuple[str, ...]] = ("w",)
    _store_halves: ClassVar[tuple[str, ...]] = ("backward",)  # products take rows of half types themselves

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: bool = True,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        inputs, outputs = check_size("inputs", inputs, 0), check_size("outputs", outputs, 0)
        bound = math.sqrt(3 / max(inputs, 1))
        self.w = Parameter(rng.uniform(-bound, bound, (inputs, outputs)).astype(dtype))
        self.b = Parameter(np.zeros(outputs, dtype)) if check_flag("bias", bias) else None

    def forward(self, x: Array) -> Array:
        """Return ``x w + b`` for x of shape (..., K)."""
        return self.w.packed().matmul(x, bias=None if self.b is None else self.b._array)

    def vjp(self, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        """Return ``forward(x)``, and the function from its gradient to that of x, which adds to those of w and b.

        x is not copied: leave its numbers as they are until then.
        """
        return self.forward(x), self.backward(x)

    def backward(self, x: Array) -> Callable[[Array], Array]:
        """Return the function from the gradient of ``forward(x)`` to that of x, which adds to those of w and b."""

        w, b = self.w, self.b
        dtype, shape = w._array.dtype, (*np.shape(x)[:-1], w._array.shape[1])

        def backward(dy: Array) -> Array:
            dy = gradient_array("dy", dy, shape, dtype)
            w._add_product(x, dy, b)
            return w.packed().matmul_transposed(dy)

        return precision.captured(backward)
