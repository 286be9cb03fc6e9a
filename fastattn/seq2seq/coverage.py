"""The coverage loss in training: of any decoder with a mechanism whose weights are (B, T, S)."""

import math
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from fastattn.errors import ArgumentError, describe
from fastattn.seq2seq.mechanism import MechanismLoop
from fastattn.seq2seq.sentences import inside
from fastattn.variants import coverage

__all__ = ["check_coverage", "coverage_loss_vjp"]

Array = NDArray[Any]


def check_coverage(config: Any) -> None:
    """Raise where a configuration has a coverage loss and no mechanism."""
    if config.coverage_loss and config.mechanism is None:
        hint = 'add [model.mechanism] with name = "coverage".'
        raise ArgumentError(describe("coverage_loss", "0 without a mechanism", config.coverage_loss, hint))


def coverage_loss_vjp(
    model: Any, batch: Any, *, seeds: Array, sampling: float
) -> tuple[float, int, Callable[[float], None]]:
    """As `Model.loss_vjp`, and the loss of See et al. 2017, equation 12, times the factor of the configuration.

    Parameters
    ----------
    model : Model
        With a mechanism, and ``_run(batch, inputs, seeds)`` to features, their way back and its loop.
    batch, seeds, sampling
        As for `Model.loss_vjp`.
    """
    factor = model.config.coverage_loss
    inputs, seeds = model.decoder_inputs(batch, seeds, sampling)
    x, features_backward, loop = model._run(batch, inputs, seeds)
    loss, count, plain_backward = model.loss_of_features(batch, x, features_backward)
    assert isinstance(loop, MechanismLoop)
    weights = loop.weights()
    if weights.ndim != 3:
        hint = "choose a mechanism with one head."
        got = f"{weights.ndim - 2} axes of heads"
        raise ArgumentError(describe("coverage_loss", "weights (B, T, S)", got, hint))
    losses, losses_backward = coverage.coverage_loss_vjp(weights)
    counted = inside(batch.target, batch.target_lengths).astype(weights.dtype)

    def backward(scale: float = 1.0) -> None:
        loop.d_weights = losses_backward(weights.dtype.type(factor * scale) * counted)
        plain_backward(scale)

    # fsum rounds once, so that the order of sentences does not matter.
    return loss + factor * math.fsum((losses * counted).ravel().tolist()), count, backward
