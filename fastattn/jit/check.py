"""Derivatives against central differences in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn.errors import ArgumentError, describe

__all__ = ["check_derivatives", "check_pairwise", "check_rows"]

_STEP = 1e-5
_CLOSE = 1e-4  # of the slope or 1, whichever is more: differences are good to 1e-9
_AT_KINKS = 0.05  # the part of the points that may be at a kink


@np.errstate(invalid="ignore")  # of scores of -inf, which have no difference
def check_derivatives(bound: Any, batch: int, heads: int, queries: int, keys: int) -> None:
    """Compare the derivatives of a modifier at points of a problem of these sizes, or raise an `ArgumentError`."""
    rng = np.random.default_rng(0)
    count = 64
    places = [rng.integers(0, size, count) for size in (batch, heads, queries, keys)]
    score = rng.normal(scale=2.0, size=count)
    slope, _ = bound.evaluate_vjp(score, *places, np.ones(count))
    moved = [bound.evaluate(score + step, *places) for step in (_STEP, -_STEP)]
    _compare(bound.name, "score", slope, (moved[0] - moved[1]) / (2 * _STEP))
    d = rng.normal(size=count)
    _, totals = bound.evaluate_vjp(score, *places, d)
    _compare_parameters(bound, totals, lambda other: float((other.evaluate(score, *places) * d).sum()), rng)


@np.errstate(invalid="ignore")
def check_rows(bound: Any, batch: int, heads: int, queries: int, keys: int) -> None:
    """Compare the derivatives of a function of rows, of some rows of a problem of these sizes, or raise."""
    rng = np.random.default_rng(0)
    places = [rng.integers(0, size, (3, 1)) for size in (batch, heads, queries)]
    score, d = (rng.normal(scale=scale, size=(3, min(keys, 12))) for scale in (2.0, 1.0))
    slope, totals = bound.evaluate_vjp(score, d, *places)
    found = np.zeros_like(score)
    for place in np.ndindex(score.shape):
        ends = []
        for step in (_STEP, -_STEP):
            moved = score.copy()
            moved[place] += step
            ends.append(float((bound.evaluate(moved, *places) * d).sum()))
        found[place] = (ends[0] - ends[1]) / (2 * _STEP)
    _compare(bound.name, "s", slope, found)
    _compare_parameters(bound, totals, lambda other: float((other.evaluate(score, *places) * d).sum()), rng)


@np.errstate(invalid="ignore")
def check_pairwise(bound: Any, width: int) -> None:
    """Compare the derivatives of a pairwise score of this width, or raise an `ArgumentError`."""
    rng = np.random.default_rng(0)
    query, key, d = rng.normal(size=(4, width)), rng.normal(size=(5, width)), rng.normal(size=(4, 5))
    d_query, d_key, totals = bound.evaluate_vjp(query, key, d)
    for name, array, gradient in (("q", query, d_query), ("k", key, d_key)):
        found = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            ends = []
            for step in (_STEP, -_STEP):
                moved = array.copy()
                moved[place] += step
                given = (moved, key) if name == "q" else (query, moved)
                ends.append(float((bound.evaluate(*given) * d).sum()))
            found[place] = (ends[0] - ends[1]) / (2 * _STEP)
        _compare(bound.name, name, gradient, found)
    _compare_parameters(bound, totals, lambda other: float((other.evaluate(query, key) * d).sum()), rng)


def _compare_parameters(bound: Any, totals: Any, value: Callable[[Any], float], rng: np.random.Generator) -> None:
    """Compare the gradients of parameters, of some elements of each."""
    for name, gradient in totals.items():
        array = bound.parameters[name].astype(np.float64)
        touched = np.flatnonzero(gradient)
        places = rng.permutation(touched)[:16] if len(touched) else np.arange(min(array.size, 4))
        found = np.zeros(len(places))
        for number, place in enumerate(places):
            ends = []
            for step in (_STEP, -_STEP):
                moved = array.copy()
                moved.flat[place] += step
                ends.append(value(bound.replaced(name, moved)))
            found[number] = (ends[0] - ends[1]) / (2 * _STEP)
        _compare(bound.name, name, gradient.flat[places], found)


def _compare(function: str, name: str, slope: Any, found: Any) -> None:
    """Raise an `ArgumentError` unless slopes are close to differences, but for a few at kinks."""
    wrong = ~(np.abs(slope - found) <= _CLOSE * np.maximum(np.abs(found), 1)) & np.isfinite(found)
    if wrong.mean() <= _AT_KINKS if wrong.size else True:
        return
    place = int(np.argmax(wrong))
    expected = f"a derivative with respect to {name} of {np.ravel(found)[place]:.6g}, by differences"
    hint = "give the derivative of what the function returns, or leave derivative= out."
    raise ArgumentError(describe(function, expected, f"{np.ravel(slope)[place]:.6g}", hint))
