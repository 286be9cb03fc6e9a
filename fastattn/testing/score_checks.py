"""The checks of a score function, each a function of a `ScoreSubject` that raises if it fails."""

import dataclasses
import io
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np

from fastattn.errors import ShapeError
from fastattn.plugin.making import make
from fastattn.scores.base import Score
from fastattn.testing.arrays import close, fill, refused, same
from fastattn.testing.attention_checks import ATTENTION_CHECKS
from fastattn.testing.attention_problem import AttentionSubject
from fastattn.testing.certificate import Skipped

__all__ = ["SCORE_CHECKS", "ScoreSubject"]


class ScoreSubject(AttentionSubject):
    """A score function with one set of options.

    Its reference is ``reference(parameters, query, key, scale, **options) -> scores`` (B, Tq, Tk) in float64, before a
    softcap; scale is the default one, and options are those that are no parameters.
    """

    kind = "score"

    def make(self, query: int, key: int, dtype: Any, seed: int) -> Score:
        """Return a new score function."""
        rng = np.random.default_rng(seed)
        drawn = getattr(self.record.load(), "drawn", None)
        if not self.options and drawn is not None:
            begun: Score = drawn(query, key, rng=rng, dtype=dtype)
            return begun
        made: Score = make(self.record, fill(self.options, rng, query, key, dtype), Score)
        return made

    def parts(self, query: int, key: int, dtype: Any, seed: int) -> tuple[Score, str]:
        """Return a new score function and softmax."""
        return self.make(query, key, dtype, seed), "softmax"

    @cached_property
    def widths(self) -> tuple[int, int]:  # type: ignore[override]
        """The first of some pairs of widths that the score function takes."""
        for query, key in ((5, 6), (6, 6)):
            try:
                self.make(query, key, np.dtype(np.float64), 0).check(np.zeros((1, query)), np.zeros((1, key)))
            except ShapeError as refused:
                error = refused
            else:
                return query, key
        raise error


def can_be_made(s: ScoreSubject) -> str:
    """It is made in both precisions and has its own parameters."""
    for dtype in (np.float32, np.float64):
        score = s.make(*s.widths, np.dtype(dtype), 3)
        for name, array in score.parameters.items():
            assert array.dtype == dtype, f"parameter {name} is {array.dtype}, not {np.dtype(dtype)}"
    return f"parameters: {', '.join(score.parameters)}" if score.parameters else "no parameters"


def formula(s: ScoreSubject) -> str:
    """Weights are the softmax of the reference's scores, float64."""
    if s.reference is None:
        raise Skipped("no reference was given")
    p = s.problem(np.float64)
    assert isinstance(p.score, Score)
    given = {name: value for name, value in s.options.items() if name != "softcap" and name not in p.parameters}
    scores = np.asarray(s.reference(p.parameters, p.query, p.key, p.score.default_scale(p.key.shape[-1]), **given))
    if "softcap" in s.options:
        scores = s.options["softcap"] * np.tanh(scores / s.options["softcap"])
    scores = np.where(p.inside, scores, -np.inf)
    wanted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    wanted /= wanted.sum(axis=-1, keepdims=True)
    output = p.forward()
    lse = np.log(np.exp(scores - scores.max(-1, keepdims=True)).sum(-1)) + scores.max(-1)
    worst = close(output.weights, wanted, 1e-9, "weights, against the formula")
    return f"to {max(worst, close(output.lse, lse, 1e-9, 'log-sum-exp, against the formula')):.1g}"


def masks(s: ScoreSubject) -> None:
    """Weights are exactly 0 where mask or lengths hide."""
    p = s.problem()
    weights = p.forward().weights
    assert (weights[~p.inside] == 0).all(), "a hidden key has a weight"
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)


def saved_and_loaded(s: ScoreSubject) -> str:
    """An object made from saved parameters gives the same bits."""
    p = s.problem(seed=1)
    file = io.BytesIO()
    parameters: dict[str, Any] = p.parameters
    np.savez(file, **parameters)
    file.seek(0)
    with np.load(file) as saved:
        options = {**fill(s.options, np.random.default_rng(2), *s.widths, np.dtype(np.float32)), **saved}
    other = dataclasses.replace(p, score=make(s.record, options, Score))
    same(other.forward(), p.forward(), "outputs with loaded parameters")
    return f"{len(parameters)} arrays"


def wrong_calls(s: ScoreSubject) -> None:
    """Widths that do not fit are refused by an error of fastattn."""
    p = s.problem()
    for what, query in (
        ("a query of another width", np.ones((3, 4, 2), np.float32)),
        ("a query of another dtype", p.query.astype(np.float64)),
    ):
        refused(what, partial(p.call, query, p.key, p.value))


SCORE_CHECKS: tuple[Callable[[ScoreSubject], object], ...] = (
    can_be_made, formula, masks, saved_and_loaded, wrong_calls, *ATTENTION_CHECKS,
)  # fmt: skip
