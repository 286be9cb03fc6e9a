"""Coverage loss: what attention spends again on positions that had their share."""

from collections.abc import Callable

import numpy as np

from fastattn._arrays import Array, float_array, gradient_array
from fastattn.errors import ShapeError, describe

__all__ = ["coverage_loss", "coverage_loss_vjp"]


def coverage_loss(weights: Array) -> Array:
    """Return ``sum_i min(a_i^t, c_i^t)`` of every step (See, Liu, Manning 2017, equation 12).

    Parameters
    ----------
    weights : array, shape (B, T, S)
        Of all steps, in their order.

    Returns
    -------
    array, shape (B, T)
        0 at the first step, and at most 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.losses import coverage_loss
    >>> coverage_loss(np.array([[[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]]))
    array([[0. , 0.5, 0.5]])
    """
    return coverage_loss_vjp(weights)[0]


def coverage_loss_vjp(weights: Array) -> tuple[Array, Callable[[Array], Array]]:
    """Return `coverage_loss`, and the function from its gradient (B, T) to that of the weights.

    Where a weight equals its coverage the gradient is that of the weight.
    """
    weights = float_array("weights", weights)
    if weights.ndim != 3:
        hint = "choose one head, or call it for each."
        raise ShapeError(describe("weights", "shape (B, T, S)", f"shape {weights.shape}", hint))
    # Running sums, unlike NumPy's sum, have one order whatever the padding.
    before = np.cumsum(weights, axis=1) - weights
    smaller = weights <= before
    least = np.where(smaller, weights, before)
    losses = np.cumsum(least, axis=-1)[..., -1] if weights.shape[-1] else np.zeros(weights.shape[:2], weights.dtype)

    def backward(d_losses: Array) -> Array:
        d_losses = gradient_array("d_losses", d_losses, losses.shape, losses.dtype)
        d = np.broadcast_to(d_losses[..., None], weights.shape)
        d_before = np.where(smaller, 0, d)
        later = np.cumsum(d_before[:, ::-1], axis=1)[:, ::-1] - d_before
        gradient: Array = np.where(smaller, d, 0) + later
        return gradient.astype(weights.dtype, copy=False)

    return losses, backward
