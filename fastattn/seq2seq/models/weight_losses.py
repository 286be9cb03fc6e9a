"""Losses of attention weights in training: of any decoder with a mechanism whose weights are (B, T, S)."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn.errors import ArgumentError, ConfigError, describe, describe_file
from fastattn.losses import coverage_loss_vjp, doubly_stochastic_loss_vjp
from fastattn.seq2seq.models.mechanism import MechanismLoop
from fastattn.seq2seq.models.sentences import inside

__all__ = ["check_weight_losses", "has_weight_losses", "weight_losses_vjp"]

Array = NDArray[Any]
Back = Callable[[Array], Array]

# Factors in the configuration, and the mechanism that each loss usually goes with.
_LOSSES = {"coverage_loss": "coverage", "doubly_stochastic_loss": "gated_additive"}


def has_weight_losses(config: Any) -> bool:
    """Whether a model's configuration asks for any."""
    return any(getattr(config, name) for name in _LOSSES)


def check_weight_losses(config: Any) -> None:
    """Raise where a configuration has such a loss and no mechanism."""
    for name, usual in _LOSSES.items():
        if getattr(config, name) and config.mechanism is None:
            hint = f'add [model.mechanism] with name = "{usual}".'
            problem = f"expected 0 without a mechanism, got {getattr(config, name)}"
            raise ConfigError(describe_file(f"model.{name}", problem, hint))


def weight_losses_vjp(
    model: Any, batch: Any, *, seeds: Array, sampling: float
) -> tuple[float, int, Callable[[float], None]]:
    """As `Model.loss_vjp`, and the losses of weights times the factors of the configuration.

    Parameters
    ----------
    model : Model
        With a mechanism, and ``_run(batch, inputs, seeds)`` to features, their way back and its loop.
    batch, seeds, sampling
        As for `Model.loss_vjp`.
    """
    batch, inputs, seeds = model.training_inputs(batch, seeds, sampling)
    x, features_backward, loop = model._run(batch, inputs, seeds)
    loss, count, plain_backward = model.loss_of_features(batch, x, features_backward)
    assert isinstance(loop, MechanismLoop)
    weights, config = loop.weights(), model.config
    if weights.ndim != 3:
        hint = "choose a mechanism with one head."
        argument = next(name for name in _LOSSES if getattr(config, name))
        raise ArgumentError(describe(argument, "weights (B, T, S)", f"{weights.ndim - 2} axes of heads", hint))
    parts = [
        (factor, *found(batch, weights))
        for factor, found in ((config.coverage_loss, _coverage), (config.doubly_stochastic_loss, _doubly_stochastic))
        if factor
    ]

    def backward(scale: float = 1.0) -> None:
        loop.d_weights = np.zeros_like(weights)
        for factor, _, counted, back in parts:
            loop.d_weights += back(weights.dtype.type(factor * scale) * counted)
        plain_backward(scale)

    # fsum rounds once, so that the order of sentences does not matter.
    more = [factor * math.fsum((losses * counted).ravel().tolist()) for factor, losses, counted, _ in parts]
    return loss + sum(more), count, backward


def _coverage(batch: Any, weights: Array) -> tuple[Array, Array, Back]:
    """Losses (B, T), which of them count, and their way back."""
    losses, back = coverage_loss_vjp(weights)
    return losses, inside(batch.target, batch.target_lengths).astype(weights.dtype), back


def _doubly_stochastic(batch: Any, weights: Array) -> tuple[Array, Array, Back]:
    """Losses (B,), which of them count, and their way back."""
    allowed = inside(batch.source, batch.source_lengths)
    losses, back = doubly_stochastic_loss_vjp(weights, np.asarray(batch.target_lengths), allowed)
    return losses, np.ones(len(weights), weights.dtype), back
