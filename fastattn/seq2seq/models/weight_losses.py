"""Losses of attention weights in training, for weights (B, T, S)."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array
from fastattn.losses import coverage_loss_vjp, doubly_stochastic_loss_vjp
from fastattn.seq2seq.models.sentences import length_mask

__all__ = ["weight_losses", "weight_losses_vjp"]

Back = Callable[[Array], Array]


def weight_losses(config: Any) -> list[str]:
    """Return the losses that a model's configuration asks for."""
    return [name for name in _LOSSES if getattr(config, name)]


def weight_losses_vjp(config: Any, batch: Any, weights: Array) -> tuple[float, Callable[[float], Array]]:
    """Return the losses of weights times their factors in the configuration, and the function to the weights' gradient.

    Parameters
    ----------
    config : dataclass
        Of the model.
    batch : Batch
    weights : array, shape (B, T, S)
    """
    parts = [(getattr(config, name), *_LOSSES[name](batch, weights)) for name in weight_losses(config)]

    def backward(scale: float) -> Array:
        gradient = np.zeros_like(weights)
        for factor, _, counted, back in parts:
            gradient += back(weights.dtype.type(factor * scale) * counted)
        return gradient

    # fsum rounds once, so that the order of sentences does not matter.
    total = sum(factor * math.fsum((losses * counted).ravel().tolist()) for factor, losses, counted, _ in parts)
    return total, backward


def _coverage(batch: Any, weights: Array) -> tuple[Array, Array, Back]:
    """Losses (B, T), which of them count, and their backward pass."""
    losses, back = coverage_loss_vjp(weights)
    return losses, length_mask(batch.target, batch.target_lengths).astype(weights.dtype), back


def _doubly_stochastic(batch: Any, weights: Array) -> tuple[Array, Array, Back]:
    """Losses (B,), which of them count, and their backward pass."""
    allowed = length_mask(batch.source, batch.source_lengths)
    losses, back = doubly_stochastic_loss_vjp(weights, np.asarray(batch.target_lengths), allowed)
    return losses, np.ones(len(weights), weights.dtype), back


# By their factors in the configuration.
_LOSSES = {"coverage_loss": _coverage, "doubly_stochastic_loss": _doubly_stochastic}
