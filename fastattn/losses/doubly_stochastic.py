"""Doubly stochastic attention: a loss for source positions that all steps together attend to too little or too much."""

from collections.abc import Callable

import numpy as np

from fastattn._arrays import as_array, float_array, gradient_array
from fastattn.errors import DTypeError, ShapeError, describe
from fastattn.variants.protocol.checks import check_lengths
from fastattn.variants.protocol.variant import Array

__all__ = ["doubly_stochastic_loss", "doubly_stochastic_loss_vjp"]


def doubly_stochastic_loss(weights: Array, steps: Array | None = None, allowed: Array | None = None) -> Array:
    """Return ``sum_i (1 - sum_t a_i^t)^2`` of each sample (Xu et al. 2015, arXiv:1502.03044, equation 14).

    Rows of weights sum to 1 in any case; with this loss, times a lambda, columns are drawn to 1 too, so that every part
    of a picture gets its share of attention.

    Parameters
    ----------
    weights : array, shape (B, T, S)
        Of all steps.
    steps : int array, shape (B,), optional
        How many steps a sample has; weights from there on are not read.
    allowed : bool array, shape (B, S), optional
        Which positions may be attended to; others count for nothing, and their weights are not read.

    Returns
    -------
    array, shape (B,)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        If an array does not have its shape or type, or a sample more than T steps.

    Notes
    -----
    Work of B T S additions. If a sample has more steps than positions, or fewer, its columns cannot all sum to 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.losses import doubly_stochastic_loss
    >>> weights = np.array([[[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]])
    >>> doubly_stochastic_loss(weights), doubly_stochastic_loss(weights, allowed=np.array([[True, True, False]]))
    (array([0.5]), array([0.25]))
    """
    return doubly_stochastic_loss_vjp(weights, steps, allowed)[0]


def doubly_stochastic_loss_vjp(
    weights: Array, steps: Array | None = None, allowed: Array | None = None
) -> tuple[Array, Callable[[Array], Array]]:
    """Return `doubly_stochastic_loss`, and the function from its gradient (B,) to that of the weights."""
    weights = float_array("weights", weights)
    if weights.ndim != 3:
        hint = "choose one head, or call it for each."
        raise ShapeError(describe("weights", "shape (B, T, S)", f"shape {weights.shape}", hint))
    batch, count, keys = weights.shape
    counts = np.ones((batch, count, keys), bool)
    if steps is not None:
        known = check_lengths(steps, batch, count, "steps", "rows of weights")
        counts &= (np.arange(count) < known[:, None])[..., None]
    if allowed is not None:
        allowed = as_array("allowed", allowed)
        if allowed.dtype != bool or allowed.shape != (batch, keys):
            error = DTypeError if allowed.dtype != bool else ShapeError
            got = f"{allowed.dtype} of shape {allowed.shape}"
            raise error(describe("allowed", f"bool of shape ({batch}, {keys})", got, "True = may be attended to."))
        counts &= allowed[:, None]
    # Running sums, unlike NumPy's sum, have one order whatever the padding, where zeros are added.
    total = np.cumsum(np.where(counts, weights, 0), axis=1)[:, -1] if count else np.zeros((batch, keys), weights.dtype)
    lacking = (1 - total).astype(weights.dtype, copy=False)
    if allowed is not None:
        lacking = np.where(allowed, lacking, weights.dtype.type(0))
    losses = np.cumsum(lacking * lacking, axis=-1)[:, -1] if keys else np.zeros(batch, weights.dtype)

    def backward(d_losses: Array) -> Array:
        d_losses = gradient_array("d_losses", d_losses, losses.shape, losses.dtype)
        gradient: Array = np.where(counts, (-2 * lacking * d_losses[:, None])[:, None], 0)
        return gradient.astype(weights.dtype, copy=False)

    return losses, backward
