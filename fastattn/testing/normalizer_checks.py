"""The checks of a normalizer, each a function of a `NormalizerSubject` that raises if it fails."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn.normalizers.base import Normalizer
from fastattn.plugin.making import make
from fastattn.testing.arrays import Array, close, fill, same
from fastattn.testing.attention_checks import ATTENTION_CHECKS
from fastattn.testing.attention_problem import AttentionProblem, AttentionSubject
from fastattn.testing.certificate import Skipped

__all__ = ["NORMALIZER_CHECKS", "NormalizerSubject"]


class NormalizerSubject(AttentionSubject):
    """A normalizer of dot products with one set of options.

    Its reference is ``reference(scores, **options) -> weights`` of rows, float64; -inf where a key is masked, and at
    least one key is not.
    """

    kind = "normalizer"

    def make(self, dtype: Any, seed: int = 0) -> Normalizer:
        """Return a new normalizer."""
        options = fill(self.options, np.random.default_rng(seed), 1, 1, dtype)
        made: Normalizer = make(self.record, options, Normalizer)
        return made

    def parts(self, query: int, key: int, dtype: Any, seed: int) -> tuple[str, Normalizer]:
        """Return dot products and a new normalizer."""
        return "dot", self.make(dtype, seed)


def can_be_made(s: NormalizerSubject) -> str:
    """It is made, and its parameters are arrays."""
    parameters = s.make(np.dtype(np.float64)).parameters
    assert all(isinstance(array, np.ndarray) for array in parameters.values()), "a parameter is no array"
    return f"parameters: {', '.join(parameters)}" if parameters else "no parameters"


def _scores(p: AttentionProblem) -> Array:
    """Return the scores of a problem, -inf where a key is hidden."""
    return np.where(p.inside, np.einsum("bqd,bkd->bqk", p.query, p.key), -np.inf)


def formula(s: NormalizerSubject) -> str:
    """Weights are those of the reference, float64."""
    if s.reference is None:
        raise Skipped("no reference was given")
    p = s.problem(np.float64)
    wanted = np.asarray(s.reference(_scores(p), **{n: v for n, v in s.options.items() if not callable(v)}), np.float64)
    return f"to {close(p.forward().weights, wanted, 1e-9, 'weights, against the formula'):.1g}"


def rows_are_distributions(s: NormalizerSubject) -> str:
    """Weights are not negative and sum to one."""
    for size in (0.01, 1.0, 30.0):
        weights = s.problem(np.float64, size=size).forward().weights
        assert (weights >= 0).all(), "a weight is negative"
        close(weights.sum(axis=-1), np.ones(weights.shape[:-1]), 1e-12, "sums of weights")
    return f"{np.mean(s.problem(np.float64).forward().weights == 0):.0%} of weights are 0"


def weights_agree_with_context(s: NormalizerSubject) -> None:
    """Contexts are the sums of values that the weights say."""
    p = s.problem(np.float64)
    output = p.forward()
    close(output.context, np.einsum("bqk,bkd->bqd", output.weights, p.value), 1e-12, "the sum of values")


def larger_scores_weigh_more(s: NormalizerSubject) -> None:
    """Within a row the order of weights is that of scores."""
    p = s.problem(np.float64)
    weights = np.take_along_axis(p.forward().weights, _scores(p).argsort(axis=-1), axis=-1)
    assert (np.diff(weights, axis=-1) >= 0).all(), "a key with a larger score has a smaller weight"


def masks(s: NormalizerSubject) -> None:
    """What is hidden, by mask or lengths, has weight 0, and counts for nothing."""
    p = s.problem()
    output = p.forward()
    assert (output.weights[~p.inside] == 0).all(), "a hidden key has a weight"
    for b, t in np.ndindex(output.weights.shape[:2]):
        kept = np.flatnonzero(p.inside[b, t])
        alone = p.call(p.query[b, t : t + 1], p.key[b, kept], p.value[b, kept])
        close(alone.weights[0], output.weights[b, t, kept], 1e-6, "a row without its hidden keys")


def nan_stays_in_its_row(s: NormalizerSubject) -> None:
    """NaN in a query reaches its row, and no other."""
    p = s.problem()
    whole = p.forward()
    p.query[0, 0] = np.nan
    found = p.forward()
    assert np.isnan(found.context[0, 0]).all(), "NaN in a query is lost"
    same([x.reshape(12, -1)[1:] for x in found[:2]], [x.reshape(12, -1)[1:] for x in whole[:2]], "rows beside NaN")


NORMALIZER_CHECKS: tuple[Callable[[NormalizerSubject], object], ...] = (
    can_be_made, formula, rows_are_distributions, weights_agree_with_context, larger_scores_weigh_more, masks,
    nan_stays_in_its_row, *ATTENTION_CHECKS,
)  # fmt: skip
