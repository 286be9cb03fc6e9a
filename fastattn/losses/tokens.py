"""Softmax cross-entropy over a vocabulary, fused with the projection onto it."""

import math
from collections.abc import Callable

import numpy as np

from fastattn import linear
from fastattn._arrays import Array, as_array, cast, float_array, index_array, is_half, narrowed, native, wide_array
from fastattn._kernels import core
from fastattn._numbers import check_number, number_in
from fastattn.errors import DTypeError, ShapeError, describe
from fastattn.layers.affine import Linear
from fastattn.layers.backward import Once

__all__ = ["cross_entropy", "cross_entropy_vjp", "log_softmax", "token_losses"]

_LOGITS = 2**23  # how many are held at once: 32 MiB in float32
_LEAST_ROWS, _MOST_ROWS = 256, 960  # of a block; fewer read and write the weights' gradient too often


def log_softmax(logits: Array) -> Array:
    """Return ``x_v - log(sum_u e^(x_u))`` over the last axis.

    Parameters
    ----------
    logits : array, shape (..., V), float32 or float64

    Returns
    -------
    array, shape (..., V)

    Notes
    -----
    The sum is taken in float64. A row of only -inf stays as it is. A row has the same bits in any batch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.losses import log_softmax
    >>> log_softmax(np.zeros((1, 4), np.float32)).round(3)
    array([[-1.386, -1.386, -1.386, -1.386]], dtype=float32)
    """
    x = native(float_array("logits", logits))
    if x.ndim < 1 or not x.shape[-1]:
        hint = "pass at least one logit for each row."
        raise ShapeError(describe("logits", "a last axis of size 1 or more", f"shape {x.shape}", hint))
    y = np.empty_like(x)
    core.log_softmax(x, None, y, x.size // x.shape[-1], x.shape[-1])
    return y


def token_losses(x: Array, projection: Linear, targets: Array, *, smoothing: float = 0.0, ignore: int = -1) -> Array:
    """Return the loss of every row, float64: with no smoothing, minus the log-probability of its target.

    Parameters
    ----------
    x, projection, targets, smoothing, ignore
        As for `cross_entropy`.

    Returns
    -------
    array, the shape of targets, float64
        0 where a target is ignored.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Linear
    >>> from fastattn.losses import token_losses
    >>> projection = Linear(3, 4, rng=np.random.default_rng(0))
    >>> token_losses(np.zeros((2, 3), np.float32), projection, np.array([1, -1])).round(3)
    array([1.386, 0.   ])
    """
    rows, at, wanted = _rows(x, projection, targets, smoothing, ignore)
    found = np.empty(len(at))
    for block in _blocks(len(at), projection):
        logits = projection.w.packed().matmul(rows[block])
        core.cross_entropy(logits, _bias(projection), wanted[block], smoothing, False, found[block])
    losses = np.zeros(np.shape(targets))
    losses.reshape(-1)[at] = found
    return losses


def cross_entropy(
    x: Array, projection: Linear, targets: Array, *, smoothing: float = 0.0, ignore: int = -1
) -> tuple[float, int]:
    """Return the sum of the losses of all rows and their number.

    The logits are ``l = x w + b``; the loss of a row with target t is ``-sum_v q_v log p_v``, where p is the softmax
    of l, and q is ``1 - s + s / V`` at t and ``s / V`` elsewhere.

    Parameters
    ----------
    x : array, shape (..., K), float32 or float64
        Or of a half type, which counts as the same numbers in float32; gradients of x then come out in it.
    projection : Linear (K, V)
    targets : integer array, the leading shape of x
    smoothing : float in [0, 1)
        The s of the formula.
    ignore : int
        Rows with this target count for nothing; x is not read there, NaN or not. Outside [0, V), or an id.

    Returns
    -------
    loss : float
        Summed in float64, in ascending order of the rows.
    count : int
        Rows that count.

    Notes
    -----
    Label smoothing: Szegedy et al. 2016, section 7. Rows are taken in blocks, so that of the (M, V) logits no more
    than 32 MiB, or 256 rows, exist at once. Work: 2 M K V operations and one exponential for each logit.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Linear
    >>> from fastattn.losses import cross_entropy
    >>> projection = Linear(3, 4, rng=np.random.default_rng(0))
    >>> loss, count = cross_entropy(np.zeros((5, 3), np.float32), projection, np.array([0, 1, 2, -1, -1]))
    >>> round(loss / count, 3), count
    (1.386, 3)
    """
    losses = token_losses(x, projection, targets, smoothing=smoothing, ignore=ignore)
    return _total(losses), int(np.count_nonzero(np.asarray(targets) != ignore))


def cross_entropy_vjp(
    x: Array, projection: Linear, targets: Array, *, smoothing: float = 0.0, ignore: int = -1
) -> tuple[float, int, Callable[[float], Array]]:
    """Return ``cross_entropy(...)`` and the function that gives its gradients.

    Parameters
    ----------
    x, projection, targets, smoothing, ignore
        As for `cross_entropy`.

    Returns
    -------
    loss : float
    count : int
    backward : function
        ``backward(scale=1.0) -> dx`` of x's shape, for ``scale * loss``; adds to the gradients of the projection. To
        be called once. Rows that are ignored get 0.

    Notes
    -----
    The gradient of the logits is ``p - q``. It is taken in the same pass as the losses, in blocks of rows; what is
    kept until `backward` is called are (M, K) and (K, V) elements. Work: 6 M K V operations.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import Linear
    >>> from fastattn.losses import cross_entropy_vjp
    >>> projection = Linear(3, 4, rng=np.random.default_rng(0))
    >>> loss, count, backward = cross_entropy_vjp(np.zeros((2, 3), np.float32), projection, np.array([0, 1]))
    >>> dx = backward(1 / count)
    >>> projection.b.gradient
    array([-0.25, -0.25,  0.25,  0.25], dtype=float32)
    """
    rows, at, wanted = _rows(x, projection, targets, smoothing, ignore)
    losses, dx = np.empty(len(at)), np.empty_like(rows)
    w, b, weights, once = projection.w, projection.b, projection.w.packed(), Once()
    dw, db = w._borrow(), np.zeros(weights.shape[1], rows.dtype)
    for number, block in enumerate(_blocks(len(at), projection)):
        logits = weights.matmul(rows[block])
        core.cross_entropy(logits, _bias(projection), wanted[block], smoothing, True, losses[block])
        weights.matmul_transposed(logits, out=dx[block])
        core.gemm_tn(rows[block], logits, dw, db, number > 0, linear.parts_of_gradient(weights.shape))
    shape, kind = np.shape(x), as_array("x", x).dtype

    def backward(scale: float = 1.0) -> Array:
        scale = check_number("scale", scale, "pass 1.0 for the loss itself.")
        once.use()
        if len(at):
            core.add_scaled(dw, scale, w._gradient)
            w._give_back(dw)
            if b is not None:
                core.add_scaled(db, scale, b._gradient)
        np.multiply(dx, dx.dtype.type(scale), out=dx)
        found = narrowed(dx, kind) if is_half(kind) else dx
        if len(at) == math.prod(shape[:-1]):
            return found.reshape(shape)
        whole = np.zeros(shape, found.dtype)
        whole.reshape(-1, shape[-1])[at] = found
        return whole

    return _total(losses), len(at), backward


def _rows(x: Array, projection: Linear, targets: Array, smoothing: float, ignore: int) -> tuple[Array, Array, Array]:
    """Check the arguments; return the rows of x that count, their numbers, and their targets."""
    x = wide_array("x", x)
    inputs, vocabulary = projection.w._array.shape
    if x.ndim < 1 or x.shape[-1] != inputs:
        hint = f"the projection is {projection.w._array.shape}."
        raise ShapeError(describe("x", f"last size {inputs}", f"shape {x.shape}", hint))
    if x.dtype.char != projection.w._array.dtype.char:
        dtype = projection.w._array.dtype
        expected = f"dtype {dtype}, that of the projection"
        raise DTypeError(describe("x", expected, x.dtype, cast("x", x, dtype)))
    wanted = index_array("targets", targets, vocabulary, ignore)
    if wanted.shape != x.shape[:-1]:
        expected = f"shape {x.shape[:-1]}, the leading shape of x"
        raise ShapeError(describe("targets", expected, f"shape {wanted.shape}", "pass one target for each row of x."))
    number_in("smoothing", smoothing, "pass 0.0 for none; 0.1 is usual.", least=0, below=1)
    wanted = wanted.reshape(-1)
    at = np.flatnonzero(wanted != ignore)
    flat = np.ascontiguousarray(x.reshape(wanted.size, inputs), projection.w._array.dtype)
    return core.unit(flat if len(at) == len(wanted) else flat[at]), at, wanted[at]


def _blocks(rows: int, projection: Linear) -> list[slice]:
    """Cut the rows into blocks that are counted from the first, so that rows which follow move none of them."""
    most = min(max(_LOGITS // max(projection.w._array.shape[1], 1), _LEAST_ROWS), _MOST_ROWS)
    return [slice(first, min(first + most, rows)) for first in range(0, rows, most)]


def _bias(projection: Linear) -> Array | None:
    return None if projection.b is None else projection.b._array


def _total(losses: Array) -> float:
    return float(np.cumsum(losses)[-1]) if losses.size else 0.0  # one by one, unlike np.sum
