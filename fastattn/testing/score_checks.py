"""The checks of a score function, each a function of a `ScoreSubject` that raises if it fails."""

import dataclasses
import io
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np

from fastattn.attention import attention, attention_vjp, prepare
from fastattn.errors import FastattnError, ShapeError
from fastattn.plugin.making import make
from fastattn.plugin.records import Record
from fastattn.scores.base import Score
from fastattn.testing.arrays import (
    Array,
    close,
    differences,
    digest,
    fill,
    in_a_child,
    refused,
    same,
    strided,
    threads,
    untouched,
)
from fastattn.testing.attention_sums import compare_sums
from fastattn.testing.certificate import Skipped

__all__ = ["SCORE_CHECKS", "ScoreSubject"]


@dataclasses.dataclass
class Problem:
    """A score function, and arrays of which parts are hidden."""

    score: Score
    query: Array
    key: Array
    value: Array
    lengths: Array
    mask: Array

    def options(self) -> dict[str, Any]:
        """Return the options of a call."""
        return {"score": self.score, "key_lengths": self.lengths, "mask": self.mask}

    def forward(self) -> Any:
        """Return context, weights and lse."""
        return attention(self.query, self.key, self.value, **self.options(), return_weights=True, return_lse=True)

    def gradients(self, d_context: Array, d_weights: Array) -> dict[str, Array]:
        """Return all gradients by name."""
        _, back = attention_vjp(self.query, self.key, self.value, **self.options(), return_weights=True)
        found = back(d_context, d_weights=d_weights)
        return {"query": found.query, "key": found.key, "value": found.value, **found.score}

    def cotangents(self) -> tuple[Array, Array]:
        """Return gradients of context and weights, drawn."""
        rng, output = np.random.default_rng(1), self.forward()
        d_context, d_weights = (rng.normal(size=x.shape).astype(x.dtype) for x in output[:2])
        return d_context, d_weights

    @property
    def hidden(self) -> Array:
        """Keys that no query of their sample may read, (B, Tk)."""
        inside = np.arange(self.key.shape[1]) < self.lengths[:, None]
        return ~(inside & self.mask.any(axis=1))


class ScoreSubject:
    """A score function with one set of options.

    Parameters
    ----------
    record : Record
    options : mapping
        Functions among them are called with (rng, query_width, key_width, dtype).
    reference : callable, optional
        ``reference(parameters, query, key, scale) -> scores`` (B, Tq, Tk) in float64; scale is the default one.
    """

    def __init__(self, record: Record, options: Mapping[str, Any], reference: Callable[..., Any] | None = None) -> None:
        self.record, self.options = record, dict(options)
        self.reference = reference

    def __str__(self) -> str:
        shown = ", ".join(name if callable(value) else f"{name}={value!r}" for name, value in self.options.items())
        return f"score {self.record.name!r}" + (f" with {shown}" if shown else "")

    def make(self, query: int, key: int, dtype: Any, seed: int) -> Score:
        """Return a new score function."""
        options = fill(self.options, np.random.default_rng(seed), query, key, dtype)
        made: Score = make(self.record, options, Score)
        return made

    @cached_property
    def widths(self) -> tuple[int, int]:
        """The first of some pairs of widths that the score function takes."""
        for query, key in ((5, 6), (6, 6)):
            try:
                self.make(query, key, np.dtype(np.float64), 0).check(np.zeros((1, query)), np.zeros((1, key)))
            except ShapeError as refused:
                error = refused
            else:
                return query, key
        raise error

    def problem(self, dtype: Any = np.float32, *, batch: int = 3, rows: int = 4, keys: int = 11, seed: int = 0,
                size: float = 1.0, widths: tuple[int, int] | None = None) -> Problem:  # fmt: skip
        """Return a problem with a mask and lengths, of other widths if some are given."""
        rng = np.random.default_rng(seed)
        query, key = self.widths if widths is None else widths
        score = self.make(query, key, np.dtype(dtype), seed)
        q, k, v = [
            (rng.normal(size=(batch, n, d)) * size).astype(dtype) for n, d in ((rows, query), (keys, key), (keys, 3))
        ]
        lengths = rng.integers(1, keys + 1, batch)
        lengths[0] = keys
        mask = rng.random((batch, rows, keys)) < 0.8
        mask[:, :, 0] = True
        return Problem(score, q, k, v, lengths, mask)


def can_be_made(s: ScoreSubject) -> str:
    """It is made in both precisions and has its own parameters."""
    for dtype in (np.float32, np.float64):
        score = s.make(*s.widths, np.dtype(dtype), 3)
        for name, array in score.parameters.items():
            assert array.dtype == dtype, f"parameter {name} is {array.dtype}, not {np.dtype(dtype)}"
    return f"parameters: {', '.join(score.parameters)}" if score.parameters else "no parameters"


def shapes_and_dtypes(s: ScoreSubject) -> None:
    """Context and weights are of the query's dtype, for arrays of 2, 3 and 4 axes and also for no rows."""
    for dtype in (np.float32, np.float64):
        p = s.problem(dtype)
        output = p.forward()
        assert output.context.dtype == output.weights.dtype == dtype, f"results are {output.context.dtype}"
        assert output.context.shape == (3, 4, 3) and output.weights.shape == (3, 4, 11), "wrong shapes"
        flat: Any = attention(p.query[0], p.key[0], p.value[0], score=p.score, return_weights=True)
        deep: Any = attention(p.query[:, None], p.key[:, None], p.value[:, None], score=p.score, return_weights=True)
        wide: Any = attention(p.query, p.key, p.value, score=p.score, return_weights=True)
        same([x[0, 0] for x in deep[:2]], flat[:2], "4 axes, against 2")
        same([x[0] for x in wide[:2]], flat[:2], "3 axes, against 2")
        none: Any = attention(p.query[:, :0], p.key, p.value, score=p.score)
        assert np.shape(none) == (3, 0, 3), f"the context of no queries has shape {np.shape(none)}"


def formula(s: ScoreSubject) -> str:
    """Weights are the softmax of the reference's scores, float64."""
    if s.reference is None:
        raise Skipped("no reference was given")
    p = s.problem(np.float64)
    parameters = p.score.parameters
    scores = np.asarray(s.reference(parameters, p.query, p.key, p.score.default_scale(p.key.shape[-1])))
    inside = p.mask & (np.arange(p.key.shape[1]) < p.lengths[:, None])[:, None]
    scores = np.where(inside, scores, -np.inf)
    wanted = np.exp(scores - scores.max(axis=-1, keepdims=True))
    wanted /= wanted.sum(axis=-1, keepdims=True)
    output = p.forward()
    lse = np.log(np.exp(scores - scores.max(-1, keepdims=True)).sum(-1)) + scores.max(-1)
    worst = close(output.weights, wanted, 1e-9, "weights, against the formula")
    return f"to {max(worst, close(output.lse, lse, 1e-9, 'log-sum-exp, against the formula')):.1g}"


def masks(s: ScoreSubject) -> None:
    """Weights are exactly 0 where mask or lengths hide."""
    p = s.problem()
    inside = p.mask & (np.arange(p.key.shape[1]) < p.lengths[:, None])[:, None]
    weights = p.forward().weights
    assert (weights[~inside] == 0).all(), "a hidden key has a weight"
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)


def poison_in_padding(s: ScoreSubject) -> None:
    """NaN and Inf in hidden keys and values change no bit."""
    p = s.problem()
    p.key[p.hidden], p.value[p.hidden] = 0, 0
    d = p.cotangents()
    clean = p.forward(), p.gradients(*d)
    p.key[p.hidden], p.value[p.hidden] = np.nan, np.inf
    same(p.forward(), clean[0], "outputs with NaN in padding")
    same(p.gradients(*d), clean[1], "gradients with NaN in padding")


def empty_rows(s: ScoreSubject) -> None:
    """A row without any key gives zeros and has no gradient."""
    p = s.problem()
    p.lengths[1], p.key[1], p.value[1] = 0, np.nan, np.nan
    output = p.forward()
    assert (output.context[1] == 0).all() and (output.weights[1] == 0).all(), "a row without keys is not 0"
    for name, gradient in p.gradients(*p.cotangents()).items():
        assert np.isfinite(gradient).all(), f"with a row without keys the gradient of {name} is not finite"
        if name in ("query", "key", "value"):
            assert (gradient[1] == 0).all(), f"a row without keys has a gradient of its {name}"


def gradients(s: ScoreSubject) -> str:
    """In float64 they are the central differences of its own contexts and weights."""
    p = s.problem(np.float64, batch=2, rows=3, keys=5)
    d_context, d_weights = p.cotangents()
    found = p.gradients(d_context, d_weights)
    assert found.keys() == {"query", "key", "value", *p.score.parameters}, (
        f"gradients are of {', '.join(found)}, parameters {', '.join(p.score.parameters) or 'none'}"
    )

    def loss() -> float:
        output = p.forward()
        return float((output.context * d_context).sum() + (output.weights * d_weights).sum())

    inputs = {"query": p.query, "key": p.key, "value": p.value, **p.score.parameters}
    worst = max(
        close(found[name], differences(loss, array), 1e-5, f"the gradient of {name}") for name, array in inputs.items()
    )
    return f"to {worst:.1g}"


def prepared_memory(s: ScoreSubject) -> None:
    """A prepared memory, also a selection of it, gives the bits of a plain call; row by row too."""
    p = s.problem()
    whole: Any = attention(p.query, p.key, p.value, score=p.score, key_lengths=p.lengths, return_weights=True)
    memory = prepare(p.key, p.value, score=p.score, key_lengths=p.lengths)
    same(memory.attend(p.query, return_weights=True), whole, "a prepared memory")
    for t in range(p.query.shape[1]):
        one: Any = memory.attend(p.query[:, t : t + 1], return_weights=True)
        same(one[:2], [x[:, t : t + 1] for x in whole[:2]], f"query {t} alone")
    rows = np.array([2, 0, 2])
    picked: Any = memory.select(rows).attend(p.query[rows], return_weights=True)
    same(picked[:2], [x[rows] for x in whole[:2]], "selected rows")


def any_batch_and_position(s: ScoreSubject) -> None:
    """A sample has the same bits alone and at another place of a batch."""
    p = s.problem(batch=4)
    whole = p.forward()
    order = np.array([2, 0, 3, 1])
    fields = ("query", "key", "value", "lengths", "mask")
    for rows in (order, *(np.array([b]) for b in range(4))):
        q = dataclasses.replace(p, **{name: getattr(p, name)[rows] for name in fields})
        same(q.forward(), [x[rows] for x in whole], f"samples {rows.tolist()} of the batch")


def any_padding(s: ScoreSubject) -> None:
    """The same bits with any number of padding keys."""
    p = s.problem()
    p.lengths[...] = 11
    whole = p.forward()
    for more in (1, 30):
        key, value = (
            np.concatenate([x, np.full((3, more, x.shape[-1]), np.nan, x.dtype)], axis=1) for x in (p.key, p.value)
        )
        mask = np.concatenate([p.mask, np.ones((3, 4, more), bool)], axis=2)
        found = dataclasses.replace(p, key=key, value=value, mask=mask).forward()
        same(found.context, whole.context, f"contexts with {more} keys of padding")
        same(np.ascontiguousarray(found.weights[..., :11]), whole.weights, f"weights with {more} keys of padding")


def any_number_of_threads(s: ScoreSubject) -> None:
    """1 to 16 threads give the same bits."""
    p = s.problem(batch=5, rows=9, keys=70)
    d = p.cotangents()
    found = []
    for number in (1, 2, 3, 16):
        with threads(number):
            found.append((p.forward(), p.gradients(*d)))
    for number, one in zip((2, 3, 16), found[1:]):
        same(one, found[0], f"with {number} threads, against one")


def any_strides(s: ScoreSubject) -> None:
    """Arrays of any strides give the same bits."""
    p = s.problem()
    d = p.cotangents()
    q = dataclasses.replace(p, query=strided(p.query), key=strided(p.key), value=strided(p.value))
    same(q.forward(), p.forward(), "outputs of strided arrays")
    same(q.gradients(*(strided(x) for x in d)), p.gradients(*d), "gradients of strided arrays")


def order_of_sums(s: ScoreSubject) -> str:
    """Gradients, those of parameters too, keep their bits where zeros are added: padding, samples, queries.

    At sizes, and at a width of 1, where NumPy's own sums would have another order; see `variant_sums`.
    """
    widths = []
    for pair in dict.fromkeys((s.widths, (1, 1))):
        try:
            p = s.problem(batch=10, rows=5, keys=150, widths=pair)
            p.forward()
        except FastattnError:  # widths or lengths that it cannot have
            continue
        widths.append(pair)
        p.lengths[...] = 150
        compare_sums(p)
    if not widths:
        raise Skipped("it takes no 150 keys")
    return "at widths " + " and ".join(f"{query}, {key}" for query, key in widths)


def repeated_runs(s: ScoreSubject) -> None:
    """The same call gives the same bits, with a second object too."""
    p, other = s.problem(), s.problem()
    d = p.cotangents()
    first = p.forward(), p.gradients(*d)
    for what, q in (("a second call", p), ("a second object", other)):
        same((q.forward(), q.gradients(*d)), first, what)


def forked_child(s: ScoreSubject) -> None:
    """A forked child computes the same bits."""
    p = s.problem(keys=40)
    d = p.cotangents()

    def everything() -> Any:
        return p.forward(), p.gradients(*d)

    assert in_a_child(everything) == digest(everything()), "a forked child has other bits"


def inputs_untouched(s: ScoreSubject) -> None:
    """Inputs and parameters are not written, also where they may only be read."""
    p = s.problem()
    d_context, d_weights = p.cotangents()
    for _ in range(2):
        arrays = {"query": p.query, "key": p.key, "value": p.value, "mask": p.mask, "lengths": p.lengths}
        with untouched(**arrays, d_context=d_context, d_weights=d_weights, **p.score.parameters):
            p.forward()
            p.gradients(d_context, d_weights)
            prepare(p.key, p.value, score=p.score).attend(p.query)
        for array in arrays.values():
            array.flags.writeable = False


def saved_and_loaded(s: ScoreSubject) -> str:
    """An object made from saved parameters gives the same bits."""
    p = s.problem(seed=1)
    file = io.BytesIO()
    parameters: dict[str, Any] = p.score.parameters
    np.savez(file, **parameters)
    file.seek(0)
    with np.load(file) as saved:
        options = {**fill(s.options, np.random.default_rng(2), *s.widths, np.dtype(np.float32)), **saved}
    other = dataclasses.replace(p, score=make(s.record, options, Score))
    same(other.forward(), p.forward(), "outputs with loaded parameters")
    return f"{len(p.score.parameters)} arrays"


def large_scores(s: ScoreSubject) -> None:
    """Large inputs give finite contexts and weights."""
    output = s.problem(size=1e4).forward()
    assert np.isfinite(output.context).all() and np.isfinite(output.weights).all(), "large inputs overflow"


def wrong_calls(s: ScoreSubject) -> None:
    """Widths that do not fit are refused by an error of fastattn."""
    p = s.problem()
    for what, query, key in (
        ("a query of another width", np.ones((3, 4, 2), np.float32), p.key),
        ("a query of another dtype", p.query.astype(np.float64), p.key),
    ):
        refused(what, partial(attention, query, key, p.value, score=p.score))


SCORE_CHECKS: tuple[Callable[[ScoreSubject], object], ...] = (
    can_be_made, shapes_and_dtypes, formula, masks, poison_in_padding, empty_rows, gradients, prepared_memory,
    any_batch_and_position, any_padding, any_number_of_threads, any_strides, order_of_sums, repeated_runs, forked_child,
    inputs_untouched, saved_and_loaded, large_scores, wrong_calls,
)  # fmt: skip
