"""The vector functions that the kernels are made of, on arrays: exp, tanh, sigmoid, masked softmax and entmax.

Bits do not depend on the array's shape, layout or on the number of threads. Results are arrays of the library that the
first argument is from, as those of `fastattn.attention`, and of its type: float16 and bfloat16 are computed in float32
and rounded once.
"""

import numpy as np

from fastattn._arrays import (
    Array,
    as_array,
    cast,
    entmax_alpha,
    is_half,
    like,
    narrowed,
    native,
    output_array,
    wide_array,
)
from fastattn._kernels import core
from fastattn.errors import DTypeError, ShapeError, describe

__all__ = [
    "entmax",
    "entmax_vjp",
    "exp",
    "sigmoid",
    "softmax",
    "softmax_vjp",
    "sparsemax",
    "sparsemax_vjp",
    "tanh",
]


def exp(x: Array, out: Array | None = None) -> Array:
    """Return e^x, within 1 ulp in float32 over all inputs; subnormal results included.

    Parameters
    ----------
    x : array, float32, float64 or a half type
    out : array, optional
        Of x's shape and dtype, contiguous; may be x itself, but share no other part of its memory.

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
    x : array, float32, float64 or a half type
    out : array, optional
        Of x's shape and dtype, contiguous; may be x itself, but share no other part of its memory.

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
    x : array, float32, float64 or a half type
    out : array, optional
        Of x's shape and dtype, contiguous; may be x itself, but share no other part of its memory.

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
    x : array, float32, float64 or a half type
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
    given, x = x, _contiguous("x", x)
    y = np.empty_like(x)
    rows, columns = _rows(x)
    core.softmax(x, _mask(mask, x), y, rows, columns)
    return _like(given, y)


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
    given = y
    y, dy = _alike(y, dy)
    dx = np.empty_like(y)
    rows, columns = _rows(y)
    core.softmax_backward(y, dy, dx, rows, columns)
    return _like(given, dx)


def sparsemax(x: Array, mask: Array | None = None) -> Array:
    """Return the sparsemax over the last axis: ``[x - t]+`` with the t that makes it sum to one.

    Parameters
    ----------
    x : array, float32, float64 or a half type
    mask : bool array, broadcastable to x's shape, optional
        True = counts. A row without any gives zeros, never NaN. Masked elements are not read.

    Returns
    -------
    array

    References
    ----------
    Martins, Astudillo 2016 (arXiv:1602.02068), algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.functional import sparsemax
    >>> sparsemax(np.array([[0.5, 0.0, -0.6]]))
    array([[0.75, 0.25, 0.  ]])
    """
    return entmax(x, 2.0, mask)


def sparsemax_vjp(y: Array, dy: Array) -> Array:
    """Return the gradient of x for ``y = sparsemax(x)``: dy less its mean where y is not 0; 0 elsewhere.

    Parameters
    ----------
    y, dy : arrays of one shape and dtype

    Returns
    -------
    array

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.functional import sparsemax_vjp
    >>> sparsemax_vjp(np.array([[0.75, 0.25, 0.0]]), np.array([[1.0, 0.0, 5.0]]))
    array([[ 0.5, -0.5,  0. ]])
    """
    return entmax_vjp(y, dy, 2.0)[0]


def entmax(x: Array, alpha: float = 1.5, mask: Array | None = None) -> Array:
    """Return the alpha-entmax over the last axis: ``[(alpha - 1) x - t]+ ^(1 / (alpha - 1))``, which sums to one.

    Parameters
    ----------
    x : array, float32, float64 or a half type
    alpha : float
        In [1, 2]: 1 is softmax, 2 is sparsemax.
    mask : bool array, broadcastable to x's shape, optional
        True = counts. A row without any gives zeros, never NaN. Masked elements are not read.

    Returns
    -------
    array

    References
    ----------
    Peters, Niculae, Martins 2019 (arXiv:1905.05702), eq. 3.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.functional import entmax
    >>> print(entmax(np.array([1.0, 1.0, -1.5]), 1.5))
    [0.5 0.5 0. ]
    """
    given, x, exponent = x, _contiguous("x", x), _one_alpha(alpha)
    y = np.empty_like(x)
    rows, columns = _rows(x)
    core.entmax(x, _mask(mask, x), y, exponent, rows, columns)
    return _like(given, y)


def entmax_vjp(y: Array, dy: Array, alpha: float = 1.5) -> tuple[Array, Array]:
    """Return the gradients of x and of alpha for ``y = entmax(x, alpha)``.

    Parameters
    ----------
    y, dy : arrays of one shape and dtype
        dy is not read where y is 0.
    alpha : float

    Returns
    -------
    dx : array
        ``s (dy - sum(s dy) / sum(s))`` with ``s = y^(2 - alpha)`` where y is not 0, else 0.
    d_alpha : array, float64, shape ``y.shape[:-1]``
        What each row adds to the gradient of alpha.

    References
    ----------
    Peters, Niculae, Martins 2019, prop. 2; Correia, Niculae, Martins 2019 (arXiv:1909.00015), prop. 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.functional import entmax_vjp
    >>> dx, d_alpha = entmax_vjp(np.array([0.5, 0.5, 0.0]), np.array([1.0, 0.0, 0.0]))
    >>> print(np.round(dx, 4), float(d_alpha))
    [ 0.3536 -0.3536  0.    ] 0.0
    """
    given = y
    y, dy = _alike(y, dy)
    dx = np.empty_like(y)
    rows, columns = _rows(y)
    d_alpha = np.zeros(y.shape[:-1])
    core.entmax_backward(y, dy, dx, d_alpha, _one_alpha(alpha), rows, columns)
    return _like(given, dx), like(given, d_alpha)


def _one_alpha(alpha: object) -> float:
    array = entmax_alpha(alpha)
    if array.ndim:
        raise ShapeError(describe("alpha", "a number", f"shape {array.shape}", "call once for each alpha."))
    return float(array)


def _mask(mask: object, x: Array) -> Array | None:
    if mask is None:
        return None
    array = as_array("mask", mask)
    if array.dtype != np.bool_:
        raise DTypeError(describe("mask", "a bool array", array.dtype, cast("mask", array, np.bool_)))
    try:
        return np.ascontiguousarray(np.broadcast_to(array, x.shape))
    except ValueError:
        raise ShapeError(
            describe("mask", f"a shape that broadcasts to {x.shape}", f"shape {array.shape}", "reshape the mask.")
        ) from None


def _alike(y: object, dy: object) -> tuple[Array, Array]:
    y, dy = _contiguous("y", y), _contiguous("dy", dy)
    if y.shape != dy.shape or y.dtype != dy.dtype:
        got = f"{dy.dtype} of shape {dy.shape}"
        raise ShapeError(describe("dy", f"{y.dtype} of shape {y.shape}, as y", got, "pass y's gradient."))
    return y, dy


def _rows(x: Array) -> tuple[int, int]:
    columns = x.shape[-1] if x.ndim else 1
    return (x.size // columns if columns else 0), columns


def _contiguous(name: str, value: object) -> Array:
    return native(wide_array(name, value))


def _like(given: Array, y: Array) -> Array:
    """Return y as an array of the library and of the type of the one that was given."""
    kind = as_array("x", given).dtype
    return like(given, narrowed(y, kind) if is_half(kind) else y)


def _map(function: int, x: Array, out: Array | None) -> Array:
    given, x, kind = x, _contiguous("x", x), as_array("x", x).dtype
    if out is None or is_half(kind):
        y = np.empty_like(x)
    else:
        y = output_array("out", out, x.shape, x.dtype, (), contiguous=True)
        if y.ctypes.data != x.ctypes.data:  # else each element is read before it is written
            output_array("out", y, x.shape, x.dtype, (x,), contiguous=True)
    core.map_array(function, x, y)
    if out is None:
        return _like(given, y)
    if is_half(kind):
        output_array("out", out, x.shape, kind, (), contiguous=True)[...] = narrowed(y, kind)
    return out
