"""The exact likelihood of hard attention: a sum over the positions that could have been attended to."""

from collections.abc import Callable

import numpy as np

from fastattn import functional
from fastattn._arrays import cast, float_array, gradient_array
from fastattn._kernels import core
from fastattn.errors import DTypeError, ShapeError, describe
from fastattn.variants.protocol.variant import Array

__all__ = ["marginal_likelihood", "marginal_likelihood_vjp"]


def marginal_likelihood(weights: Array, log_likelihoods: Array) -> Array:
    """Return ``log sum_j p(j) p(y | j)`` of every step (Wu, Shapiro, Cotterell 2018, arXiv:1808.10024, section 4.1).

    Parameters
    ----------
    weights : array, shape (B, T, S)
        p(j), of any soft variant.
    log_likelihoods : array, shape (B, T, S)
        log p(y_t | j): what the decoder gives the target y_t where its context is row j of the memory. Where a weight
        is 0 it is not read.

    Returns
    -------
    array, shape (B, T)
        -inf for a step whose weights are all 0.

    Notes
    -----
    A mean over contexts would be soft attention; here the mean is of likelihoods, at the price of S readouts a step.
    Use it with a decoder whose next state does not depend on the context, as in the paper: the sum over all sequences
    of positions is then the product over steps of these sums. Take weights of ``variant.vjp(queries, prepared,
    return_weights=True)`` and give its backward the d_weights from here. At inference, too, p(y) is this sum. The
    gradient of a weight that is 0 is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.losses import marginal_likelihood
    >>> weights = np.array([[[0.5, 0.5, 0.0]]])
    >>> np.exp(marginal_likelihood(weights, np.log([[[0.2, 0.4, 0.9]]]))).round(3)
    array([[0.3]])
    """
    return marginal_likelihood_vjp(weights, log_likelihoods)[0]


def marginal_likelihood_vjp(
    weights: Array, log_likelihoods: Array
) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """Return `marginal_likelihood`, and the function from its gradient to those of weights and log-likelihoods.

    With the posterior ``q_j = p(j) p(y | j) / sum_k p(k) p(y | k)``, these are ``d q_j / p(j)`` and ``d q_j``.
    """
    arrays = ("weights", weights), ("log_likelihoods", log_likelihoods)
    weights, given = (core.unit(float_array(name, array)) for name, array in arrays)
    if weights.ndim != 3 or given.shape != weights.shape:
        expected = f"shape {weights.shape}" if weights.ndim == 3 else "weights of shape (B, T, S)"
        hint = "one for each sample, step and position."
        raise ShapeError(describe("log_likelihoods", expected, f"shape {given.shape}", hint))
    if given.dtype != weights.dtype:
        hint = cast("log_likelihoods", given, weights.dtype)
        raise DTypeError(describe("log_likelihoods", f"{weights.dtype}, as weights", given.dtype, hint))
    batch, steps, keys = weights.shape
    some = weights != 0
    if keys:
        total, posterior = _marginal(weights, given, some)
    else:
        total, posterior = np.full((batch, steps), -np.inf, weights.dtype), np.zeros_like(weights)

    def backward(d_total: Array) -> tuple[Array, Array]:
        d_total = gradient_array("d_total", d_total, total.shape, total.dtype)
        d = posterior * d_total[..., None]
        safe = np.where(some, weights, weights.dtype.type(1))
        return np.where(some, d / safe, weights.dtype.type(0)), d

    return total, backward


def _marginal(weights: Array, given: Array, some: Array) -> tuple[Array, Array]:
    """Return the likelihoods (B, T) and the posteriors (B, T, S)."""
    batch, steps, keys = weights.shape
    logs = np.empty((batch * steps, keys), weights.dtype)
    core.logarithm(np.ascontiguousarray(weights).reshape(-1, keys), None, 0, logs)
    joint = np.where(some, logs.reshape(weights.shape) + np.where(some, given, 0), weights.dtype.type(-np.inf))
    posterior = functional.softmax(joint, mask=joint != -np.inf)
    # log sum = log of the largest term - log of its share, which is 1 / S at least.
    at = joint.argmax(axis=-1)[..., None]
    largest, share = (np.take_along_axis(x, at, axis=-1)[..., 0] for x in (joint, posterior))
    shares = np.empty((batch, steps), weights.dtype)
    core.logarithm(np.ascontiguousarray(np.where(share == 0, weights.dtype.type(1), share)), None, 0, shares)
    return largest - shares, posterior
