"""Dropout whose mask is a function of a seed and a position: nothing is stored, and a batch does not change it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array, as_array, float_array, gradient_array, native
from fastattn._kernels import core
from fastattn._numbers import check_number
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe

__all__ = ["dropout", "dropout_vjp"]


def dropout(x: Array, rate: float, seed: Any) -> Array:
    """Return x with elements dropped: ``y = x / (1 - rate)`` where an element is kept, 0 where it is dropped.

    Parameters
    ----------
    x : array, shape (B, ...), float32 or float64
        The first axis is that of the samples.
    rate : float in [0, 1)
        Probability of an element to be dropped. With 0 the result is x itself, not a copy.
    seed : int, or integer array of shape (B,)
        One for each sample; an int gives each sample of the batch another one. An element is kept or dropped by its
        sample's seed and its number within the sample, so that padding at the end of a sample and its place in the
        batch change nothing. Give each place in a model seeds of its own.

    Returns
    -------
    array, shape (B, ...)
        A dropped element is 0 also where x is NaN.

    See Also
    --------
    fastattn.attention : drops weights by the same hash, with other numbers for the same seed.

    Notes
    -----
    Srivastava et al. 2014, section 4, scaled in training as is usual now. About 6 integer operations an element.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import dropout
    >>> dropout(np.ones((1, 8), np.float32), 0.5, seed=np.array([4]))
    array([[2., 2., 0., 0., 0., 0., 2., 2.]], dtype=float32)
    """
    x = float_array("x", x)
    return _apply(x, rate, _seeds(x, rate, seed))


def dropout_vjp(x: Array, rate: float, seed: Any) -> tuple[Array, Callable[[Array], Array]]:
    """Return ``dropout(x, rate, seed)``, and the function from its gradient to that of x.

    Parameters
    ----------
    x : array, shape (B, ...)
    rate : float
    seed : int or array
        As for `dropout`.

    Returns
    -------
    y : array, shape (B, ...)
    backward : function
        ``backward(dy) -> dx``; where an element was dropped, dy is not read into dx.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.layers import dropout_vjp
    >>> y, backward = dropout_vjp(np.ones((1, 4)), 0.5, seed=np.array([4]))
    >>> backward(np.array([[1.0, 2.0, np.nan, 4.0]]))
    array([[2., 4., 0., 0.]])
    """
    x = float_array("x", x)
    seeds, shape, dtype = _seeds(x, rate, seed), x.shape, x.dtype

    def backward(dy: Array) -> Array:
        return _apply(gradient_array("dy", dy, shape, dtype), rate, seeds)

    return _apply(x, rate, seeds), backward


def _apply(x: Array, rate: float, seeds: Array) -> Array:
    if rate == 0 or x.size == 0:
        return x
    x = native(x)
    y = np.empty_like(x)
    core.dropout(x, seeds, math.floor(rate * 2.0**32), 1 / (1 - rate), y)
    return y


def _seeds(x: Array, rate: float, seed: Any) -> Array:
    """Check the arguments and return the seeds of the samples, uint64 (B,)."""
    if not 0 <= check_number("rate", rate, "pass 0.0 for no dropout.") < 1:
        raise ArgumentError(describe("rate", "a probability in [0, 1)", repr(rate), "pass 0.0 for no dropout."))
    if x.ndim == 0:
        raise ShapeError(describe("x", "samples along the first axis", "shape ()", "add an axis: x[None]."))
    hint = "an int gives every sample of the batch a mask of its own; an array (B,) fixes each sample's mask."
    given = as_array("seed", seed)
    if given.dtype.kind not in "iu":
        raise DTypeError(describe("seed", "integers", given.dtype, hint))
    if given.ndim == 0:
        base = core.mix64(int(given))
        return np.array([core.mix64(base + b) for b in range(x.shape[0])], np.uint64)
    if given.shape != x.shape[:1]:
        raise ShapeError(describe("seed", f"an int or shape ({x.shape[0]},)", f"shape {given.shape}", hint))
    return given.astype(np.uint64)  # a copy
