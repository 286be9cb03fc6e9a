"""The checks of a normalizer, each a function of a `NormalizerSubject` that raises if it fails."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastattn.attention import attention, attention_vjp, prepare
from fastattn.normalizers.base import Normalizer
from fastattn.plugin.making import make
from fastattn.plugin.records import Record
from fastattn.testing.arrays import (
    Array,
    close,
    differences,
    digest,
    fill,
    in_a_child,
    same,
    strided,
    threads,
    untouched,
)
from fastattn.testing.attention_sums import compare_sums
from fastattn.testing.certificate import Skipped

__all__ = ["NORMALIZER_CHECKS", "NormalizerSubject"]


@dataclasses.dataclass
class Problem:
    """A normalizer under attention with dot products."""

    normalizer: Normalizer
    query: Array
    key: Array
    value: Array
    mask: Array

    def forward(self) -> Any:
        """Return context and weights."""
        return attention(
            self.query, self.key, self.value, score="dot", normalizer=self.normalizer, mask=self.mask,
            return_weights=True,
        )  # fmt: skip

    def cotangents(self) -> tuple[Array, Array]:
        """Return gradients of context and weights, drawn."""
        rng, output = np.random.default_rng(1), self.forward()
        d_context, d_weights = (rng.normal(size=x.shape).astype(x.dtype) for x in output[:2])
        return d_context, d_weights

    def gradients(self, d_context: Array, d_weights: Array) -> dict[str, Array]:
        """Return all gradients by name."""
        _, back = attention_vjp(
            self.query, self.key, self.value, score="dot", normalizer=self.normalizer, mask=self.mask,
            return_weights=True,
        )  # fmt: skip
        found = back(d_context, d_weights=d_weights)
        return {"query": found.query, "key": found.key, "value": found.value, **found.normalizer}


class NormalizerSubject:
    """A normalizer with one set of options.

    Parameters
    ----------
    record : Record
    options : mapping
    reference : callable, optional
        ``reference(scores) -> weights`` of rows, float64; -inf where a key is masked, and at least one key is not.
    """

    def __init__(self, record: Record, options: Mapping[str, Any], reference: Callable[..., Any] | None = None) -> None:
        self.record, self.options, self.reference = record, dict(options), reference

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.options.items() if not callable(value))
        return f"normalizer {self.record.name!r}" + (f" with {shown}" if shown else "")

    def make(self, dtype: Any, seed: int = 0) -> Normalizer:
        """Return a new normalizer."""
        options = fill(self.options, np.random.default_rng(seed), 1, 1, dtype)
        made: Normalizer = make(self.record, options, Normalizer)
        return made

    def problem(self, dtype: Any = np.float32, *, batch: int = 3, rows: int = 4, keys: int = 11,
                size: float = 1.0) -> Problem:  # fmt: skip
        """Return a problem with a mask."""
        rng = np.random.default_rng(0)
        q, k, v = ((rng.normal(size=(batch, n, d)) * size).astype(dtype) for n, d in ((rows, 5), (keys, 5), (keys, 3)))
        mask = rng.random((batch, rows, keys)) < 0.8
        mask[:, :, 0] = True
        return Problem(self.make(np.dtype(dtype)), q, k, v, mask)


def can_be_made(s: NormalizerSubject) -> str:
    """It is made, and its parameters are arrays."""
    parameters = s.make(np.dtype(np.float64)).parameters
    assert all(isinstance(array, np.ndarray) for array in parameters.values()), "a parameter is no array"
    return f"parameters: {', '.join(parameters)}" if parameters else "no parameters"


def shapes_and_dtypes(s: NormalizerSubject) -> None:
    """Results are of the query's dtype, in 2, 3 and 4 axes alike."""
    for dtype in (np.float32, np.float64):
        p = s.problem(dtype)
        output = p.forward()
        assert output.context.dtype == output.weights.dtype == dtype, f"results are {output.context.dtype}"
        assert output.context.shape == (3, 4, 3) and output.weights.shape == (3, 4, 11), "wrong shapes"
        options: Any = {"normalizer": p.normalizer, "return_weights": True}
        flat: Any = attention(p.query[0], p.key[0], p.value[0], **options)
        deep: Any = attention(p.query[:, None], p.key[:, None], p.value[:, None], **options)
        same([x[0, 0] for x in deep[:2]], flat[:2], "4 axes, against 2")


def formula(s: NormalizerSubject) -> str:
    """Weights are those of the reference, float64."""
    if s.reference is None:
        raise Skipped("no reference was given")
    p = s.problem(np.float64)
    scores = np.where(p.mask, np.einsum("bqd,bkd->bqk", p.query, p.key), -np.inf)
    return f"to {close(p.forward().weights, np.asarray(s.reference(scores)), 1e-9, 'weights, against the formula'):.1g}"


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
    scores = np.where(p.mask, np.einsum("bqd,bkd->bqk", p.query, p.key), -np.inf)
    weights = np.take_along_axis(p.forward().weights, scores.argsort(axis=-1), axis=-1)
    assert (np.diff(weights, axis=-1) >= 0).all(), "a key with a larger score has a smaller weight"


def masks(s: NormalizerSubject) -> None:
    """What is masked, by a mask or by a bias of -inf, has weight 0, and counts for nothing."""
    p = s.problem()
    output = p.forward()
    assert (output.weights[~p.mask] == 0).all(), "a hidden key has a weight"
    for b in range(3):
        for t in range(4):
            kept = np.flatnonzero(p.mask[b, t])
            alone: Any = attention(
                p.query[b, t : t + 1], p.key[b, kept], p.value[b, kept], score="dot", normalizer=p.normalizer,
                return_weights=True,
            )  # fmt: skip
            close(alone.weights[0], output.weights[b, t, kept], 1e-6, "a row without its hidden keys")


def poison_in_padding(s: NormalizerSubject) -> None:
    """NaN in keys and values that nobody may read changes no bit."""
    p = s.problem()
    p.mask[:, :, 5] = False
    p.key[:, 5] = p.value[:, 5] = 0
    d = p.cotangents()
    clean = p.forward(), p.gradients(*d)
    p.key[:, 5], p.value[:, 5] = np.nan, np.inf
    same((p.forward(), p.gradients(*d)), clean, "results with NaN in padding")


def empty_rows(s: NormalizerSubject) -> None:
    """A row without any key gives zeros and has no gradient."""
    p = s.problem()
    p.mask[1] = False
    output = p.forward()
    assert (output.context[1] == 0).all() and (output.weights[1] == 0).all(), "a row without keys is not 0"
    for name, gradient in p.gradients(*p.cotangents()).items():
        assert np.isfinite(gradient).all(), f"with a row without keys the gradient of {name} is not finite"
        assert name not in ("query", "key", "value") or (gradient[1] == 0).all(), f"it has a gradient of its {name}"


def gradients(s: NormalizerSubject) -> str:
    """In float64 they are the central differences of its own contexts and weights."""
    p = s.problem(np.float64, batch=2, rows=3, keys=5)
    d_context, d_weights = p.cotangents()
    found = p.gradients(d_context, d_weights)

    def loss() -> float:
        output = p.forward()
        return float((output.context * d_context).sum() + (output.weights * d_weights).sum())

    inputs = {"query": p.query, "key": p.key, "value": p.value}
    worst = max(
        close(found[name], differences(loss, array), 1e-5, f"the gradient of {name}") for name, array in inputs.items()
    )
    return f"to {worst:.1g}"


def prepared_memory(s: NormalizerSubject) -> None:
    """A prepared memory gives the bits of a plain call, also query by query."""
    p = s.problem()
    whole: Any = attention(p.query, p.key, p.value, score="dot", normalizer=p.normalizer, return_weights=True)
    memory = prepare(p.key, p.value, score="dot")
    options: Any = {"normalizer": p.normalizer, "return_weights": True}
    same(memory.attend(p.query, **options), whole, "a prepared memory")
    for t in range(4):
        one: Any = memory.attend(p.query[:, t : t + 1], **options)
        same(one[:2], [x[:, t : t + 1] for x in whole[:2]], f"query {t} alone")


def any_batch_and_position(s: NormalizerSubject) -> None:
    """A sample has the same bits alone and at another place of a batch."""
    p = s.problem(batch=4)
    whole = p.forward()
    for rows in (np.array([2, 0, 3, 1]), *(np.array([b]) for b in range(4))):
        q = Problem(p.normalizer, p.query[rows], p.key[rows], p.value[rows], p.mask[rows])
        same(q.forward()[:2], [x[rows] for x in whole[:2]], f"samples {rows.tolist()} of the batch")


def any_number_of_threads(s: NormalizerSubject) -> None:
    """1 to 16 threads give the same bits."""
    p = s.problem(batch=5, rows=40, keys=70)
    d, found = p.cotangents(), []
    for number in (1, 2, 3, 16):
        with threads(number):
            found.append((p.forward(), p.gradients(*d)))
    for number, one in zip((2, 3, 16), found[1:]):
        same(one, found[0], f"with {number} threads, against one")


def any_strides(s: NormalizerSubject) -> None:
    """Arrays of any strides give the same bits."""
    p = s.problem()
    q = dataclasses.replace(p, query=strided(p.query), key=strided(p.key), value=strided(p.value))
    same(q.forward(), p.forward(), "results of strided arrays")


def order_of_sums(s: NormalizerSubject) -> None:
    """Gradients, those of parameters too, keep their bits where zeros are added: padding, samples, queries."""
    compare_sums(s.problem(batch=10, rows=30, keys=40))


def repeated_runs(s: NormalizerSubject) -> None:
    """The same call gives the same bits, with a second object too."""
    p, other = s.problem(), s.problem()
    d = p.cotangents()
    first = p.forward(), p.gradients(*d)
    for what, q in (("a second call", p), ("a second object", other)):
        same((q.forward(), q.gradients(*d)), first, what)


def forked_child(s: NormalizerSubject) -> None:
    """A forked child computes the same bits."""
    p = s.problem(keys=40)
    d = p.cotangents()

    def everything() -> Any:
        return p.forward(), p.gradients(*d)

    assert in_a_child(everything) == digest(everything()), "a forked child has other bits"


def inputs_untouched(s: NormalizerSubject) -> None:
    """Inputs and parameters are not written."""
    p = s.problem()
    d_context, d_weights = p.cotangents()
    given = {"query": p.query, "key": p.key, "value": p.value, "mask": p.mask}
    with untouched(**given, d_context=d_context, d_weights=d_weights, **p.normalizer.parameters):
        p.forward()
        p.gradients(d_context, d_weights)


def nan_stays_in_its_row(s: NormalizerSubject) -> None:
    """NaN in a query reaches its row, and no other."""
    p = s.problem()
    whole = p.forward()
    p.query[0, 0] = np.nan
    found = p.forward()
    assert np.isnan(found.context[0, 0]).all(), "NaN in a query is lost"
    same([x.reshape(12, -1)[1:] for x in found[:2]], [x.reshape(12, -1)[1:] for x in whole[:2]], "rows beside NaN")


def large_scores(s: NormalizerSubject) -> None:
    """Large scores give finite contexts and weights."""
    output = s.problem(size=1e4).forward()
    assert np.isfinite(output.context).all() and np.isfinite(output.weights).all(), "large scores overflow"


NORMALIZER_CHECKS: tuple[Callable[[NormalizerSubject], object], ...] = (
    can_be_made, shapes_and_dtypes, formula, rows_are_distributions, weights_agree_with_context,
    larger_scores_weigh_more, masks, poison_in_padding, empty_rows, gradients, prepared_memory, any_batch_and_position,
    any_number_of_threads, any_strides, order_of_sums, repeated_runs, forked_child, inputs_untouched,
    nan_stays_in_its_row, large_scores,
)  # fmt: skip
