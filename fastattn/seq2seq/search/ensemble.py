"""Several models as one: the probability of a token is the mean of what they give it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fastattn._arrays import Array
from fastattn._strings import items
from fastattn.errors import ArgumentError, UnsupportedError, describe
from fastattn.layers import Linear
from fastattn.seq2seq.models.model import BatchLike, Longest, Model, State
from fastattn.seq2seq.models.sentences import length_mask
from fastattn.seq2seq.models.wu import mixture
from fastattn.seq2seq.search.decoding import mean_of_heads
from fastattn.variants.protocol.checks import check_kind

__all__ = ["Ensemble"]


@dataclass(frozen=True)
class EnsembleState(State):
    """Where each of the models stands."""

    states: tuple[State, ...]

    @property
    def batch(self) -> int | None:
        """The number of sentences."""
        return self.states[0].batch

    def select(self, rows: Array) -> "EnsembleState":
        """Return the states of these sentences."""
        return EnsembleState(tuple(state.select(rows) for state in self.states))


class Ensemble(Model):
    """Models of one pair of vocabularies, searched and scored with as one.

    ::

        log p(y_t | y_<t, x) = log((1/K) sum_k p_k(y_t | y_<t, x))

    Parameters
    ----------
    models : iterable of Model
        Of any kinds, with target vocabularies of one size. What the ids mean is not known here; `load` looks at the
        vocabularies.

    Notes
    -----
    Weights are the mean of those of all models, heads averaged, if all have some. Sums are taken in the order of the
    models: a sentence has the same bits in any batch. An ensemble is not trained, `loss_vjp` is an error. Memory and
    time are the sums of those of its models.

    References
    ----------
    Sutskever, Vinyals, Le, "Sequence to Sequence Learning with Neural Networks", NeurIPS 2014, arXiv:1409.3215,
    section 3.4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import BahdanauConfig, Ensemble, beam_search, build
    >>> config = BahdanauConfig(embedding=8, hidden=16, attention=16, readout_width=8)
    >>> model = Ensemble([build(config, 10, 12, seed=seed) for seed in range(3)])
    >>> [[found]] = beam_search(model, np.array([[4, 5, 2]]), np.array([3]), size=4, limit=5)
    >>> len(found.tokens) <= 5
    True
    """

    attends: ClassVar[bool] = True

    def __init__(self, models: Iterable[Model]) -> None:
        hint = "pass what build returned, or the models of translators."
        self.models: list[Model] = list(items("models", "models", models, hint))  # type: ignore[arg-type]
        for model in self.models:
            check_kind("models", model, Model, hint)
        sizes = {model.projection.w.value.shape[1] for model in self.models}
        if len(sizes) != 1:
            got = f"those of {', '.join(map(str, sorted(sizes))) or 'no model'} tokens"
            hint = "pass models that were trained with the same vocabularies."
            raise ArgumentError(describe("models", "models with target vocabularies of one size", got, hint))
        self.attends = all(model.attends for model in self.models)  # type: ignore[misc]
        self.caches = all(model.caches for model in self.models)  # type: ignore[misc]

    @property
    def config(self) -> Any:
        """The settings of the first model."""
        return self.models[0].config

    @property
    def projection(self) -> Linear:  # type: ignore[override]
        """Of the first model: all are as wide."""
        return self.models[0].projection

    def longest(self) -> Longest:
        """Return how long sentences may be: what the shortest allows."""
        every = [model.longest() for model in self.models]

        def least(side: str) -> int | None:
            return min((most for one in every if (most := getattr(one, side)) is not None), default=None)

        return Longest(least("source"), least("target"), next((one.key for one in every if one.key), ""))

    def encode(self, source: Array, source_lengths: Array) -> EnsembleState:
        """Return the states before the first target token."""
        return EnsembleState(tuple(model.encode(source, source_lengths) for model in self.models))

    def step(self, tokens: Array, state: EnsembleState) -> tuple[Array, EnsembleState, Array | None]:
        """Feed one token to each sentence; return log-probabilities (B, V), the states, and weights (B, S) or None."""
        found = [model.step(tokens, each) for model, each in zip(self.models, state.states)]
        weights = _mean_weights([weights for _, _, weights in found], 2) if self.attends else None
        after = EnsembleState(tuple(state for _, state, _ in found))
        return _log_mean([log_probabilities for log_probabilities, _, _ in found]), after, weights

    def teacher_forcing(self, batch: BatchLike, *, weights: bool | str = True) -> tuple[Array, Array | None]:
        """Return the log-probability (B, T) of every target token, and weights (B, T, S) or None."""
        if weights == "layers":
            hint = "ask the models one by one."
            raise UnsupportedError(describe("weights", "True or False for an ensemble", "'layers'", hint))
        found = [model.teacher_forcing(batch, weights=weights) for model in self.models]
        attended = _mean_weights([weights for _, weights in found], 3) if weights and self.attends else None
        mean = _log_mean([log_probabilities for log_probabilities, _ in found])
        mean[~length_mask(mean, batch.target_lengths)] = 0
        return mean, attended

    def loss(self, batch: BatchLike) -> tuple[float, int]:
        """Return minus the log-probability of all target tokens, and their number."""
        log_probabilities, _ = self.teacher_forcing(batch, weights=False)
        return -float(log_probabilities.sum(dtype=np.float64)), int(np.sum(batch.target_lengths))

    def loss_vjp(
        self, batch: BatchLike, *, seeds: Array, sampling: float = 0.0
    ) -> tuple[float, int, Callable[[float], None]]:
        """Refuse: the models are trained one by one."""
        raise UnsupportedError(describe("loss_vjp", "one model", "an ensemble", "train its models one by one."))


def _log_mean(log_probabilities: list[Array]) -> Array:
    """Return the logarithm of the mean of the exponentials, element by element, of arrays (B, N)."""
    given = np.stack(log_probabilities, axis=1)
    return mixture(np.full(given.shape[:2], 1 / len(log_probabilities), given.dtype), given)


def _mean_weights(weights: list[Array | None], dimensions: int) -> Array:
    """Return the mean of weights with so many dimensions, or one more before the last, of heads."""
    total: Any = 0
    for each in weights:
        assert each is not None
        flat = each.reshape(-1, *each.shape[dimensions - 1 :])  # a row for each token: (S,) or (H, S)
        total = total + mean_of_heads(flat).reshape(*each.shape[: dimensions - 1], -1)
    return np.asarray(total / len(weights))
