"""Losses of encoder-decoders, each with its gradient: of words, and of attention weights."""

from fastattn.losses.coverage import coverage_loss, coverage_loss_vjp
from fastattn.losses.doubly_stochastic import doubly_stochastic_loss, doubly_stochastic_loss_vjp
from fastattn.losses.marginal import marginal_likelihood, marginal_likelihood_vjp
from fastattn.losses.tokens import cross_entropy, cross_entropy_vjp, log_softmax, token_losses

__all__ = [
    "coverage_loss",
    "coverage_loss_vjp",
    "cross_entropy",
    "cross_entropy_vjp",
    "doubly_stochastic_loss",
    "doubly_stochastic_loss_vjp",
    "log_softmax",
    "marginal_likelihood",
    "marginal_likelihood_vjp",
    "token_losses",
]
