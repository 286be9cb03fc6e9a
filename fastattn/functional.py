"""The vector functions that the kernels are made of, on arrays: exp, tanh, sigmoid, masked softmax.

Bits do not depend on the array's shape, layout or on the number of threads.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn._arrays import as_array, float_array
from fastattn._kernels import core
from fastattn.errors import DTypeError, ShapeError, describe

__all__ = ["exp", "sigmoid", "softmax", "softmax_vjp", "tanh"]

Array = NDArray[Any]


def exp(x: Array, out: Array | None = None) -> Array:
    """Return e^x, within 1 ulp in float32 over all inputs; subnormal results included.

    Parameters
    ----------
    x : array, float32 or float64
    out : array, optional
        Of x's shape and dtype, contiguous; may be x itself.

    Returns
    -------
    array

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.functional import exp
    >>> exp(np.zeros(2, np.float32))
    array([1., 1.], dtype=float32)
    """
    return _map(0, x, out)


def tanh(x: Array, out: Array | None = None) -> Array:
    """Return tanh x, within 3 ulp.

    Parameters
    ----------
    x : array, float32 or float64
    out : array, optional
        Of x's shape and dtype, contiguous; may be x itself.

    Returns
    -------
    array

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.functional import tanh
    >>> tanh(np.zeros(2, np.float32))
    array([0., 0.], dtype=float32)
    """
    return _map(1, x, out)


def sigmoid(x: Array, out: Array | None = None) -> Array:
    """Return 1 / (1 + e^-x), within 3 ulp.

    Parameters
    ----------
    x : array, float32 or float64
    out : array, optional
        Of x's shape and dtype, contiguous; may be x itself.

    Returns
    -------
    array

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.functional import sigmoid
    >>> sigmoid(np.zeros(2, np.float32))
    array([0.5, 0.5], dtype=float32)
    """
    return _map(2, x, out)


def softmax(x: Array, mask: Array | None = None) -> Array:
    """Return the softmax over the last axis; masked elements count for nothing and get 0.

    Parameters
    ----------
    x : array, float32 or float64
    mask : bool array, broadcastable to x's shape, optional
        True = counts. A row without any gives zeros, never NaN. Masked elements are not read.

    Returns
    -------
    array

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.functional import softmax
    >>> softmax(np.zeros((1, 3), np.float32), mask=np.array([True, True, False]))
    array([[0.5, 0.5, 0. ]], dtype=float32)
    """
    x = _contiguous("x", x)
    if mask is not None:
        mask = as_array("mask", mask)
        if mask.dtype != np.bool_:
            raise DTypeError(describe("mask", "a bool array", mask.dtype, "pass mask.astype(bool)."))
        try:
            mask = np.ascontiguousarray(np.broadcast_to(mask, x.shape))
        except ValueError:
            raise ShapeError(
                describe("mask", f"a shape that broadcasts to {x.shape}", f"shape {mask.shape}", "reshape the mask.")
            ) from None
    y = np.empty_like(x)
    rows, columns = _rows(x)
    core.softmax(x, mask, y, rows, columns)
    return y


def softmax_vjp(y: Array, dy: Array) -> Array:
    """Return the gradient of x for ``y = softmax(x)``: ``y (dy - sum(y dy))``; 0 where y is 0.

    Parameters
    ----------
    y, dy : arrays of one shape and dtype

    Returns
    -------
    array

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.functional import softmax_vjp
    >>> softmax_vjp(np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    array([[ 0.25, -0.25]])
    """
    y, dy = _contiguous("y", y), _contiguous("dy", dy)
    if y.shape != dy.shape or y.dtype != dy.dtype:
        got = f"{dy.dtype} of shape {dy.shape}"
        raise ShapeError(describe("dy", f"{y.dtype} of shape {y.shape}, as y", got, "pass y's gradient."))
    dx = np.empty_like(y)
    rows, columns = _rows(y)
    core.softmax_vjp(y, dy, dx, rows, columns)
    return dx


def _rows(x: Array) -> tuple[int, int]:
    columns = x.shape[-1] if x.ndim else 1
    return (x.size // columns if columns else 0), columns


def _contiguous(name: str, value: object) -> Array:
    array = float_array(name, value)
    return np.require(array, array.dtype.newbyteorder("="), ["C", "A"])


def _map(function: int, x: Array, out: Array | None) -> Array:
    x = _contiguous("x", x)
    if out is None:
        out = np.empty_like(x)
    elif out.shape != x.shape or out.dtype != x.dtype or not out.flags.carray:
        expected = f"a contiguous, writable {x.dtype} array of shape {x.shape}"
        got = f"{out.dtype} of shape {out.shape}"
        raise ShapeError(describe("out", expected, got, "leave out= away, or pass np.empty_like(x)."))
    core.map_array(function, x, out)
    return out
