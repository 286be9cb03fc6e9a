"""What a score function and a normalizer are checked for alike, each a function of an `AttentionSubject`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn.errors import FastattnError
from fastattn.testing.arrays import close, differences, padded, same, untouched
from fastattn.testing.attention_problem import AttentionProblem, AttentionSubject
from fastattn.testing.certificate import Skipped
from fastattn.testing.common_checks import (
    any_number_of_threads,
    any_strides,
    forked_child,
    large_scores,
    repeated_runs,
)

__all__ = ["ATTENTION_CHECKS"]


def shapes_and_dtypes(s: AttentionSubject) -> None:
    """Context and weights are of the query's dtype, for arrays of 2, 3 and 4 axes and also for no rows."""
    for dtype in (np.float32, np.float64):
        p = s.problem(dtype)
        output = p.forward()
        assert output.context.dtype == output.weights.dtype == dtype, f"results are {output.context.dtype}"
        assert output.context.shape == (3, 4, 3) and output.weights.shape == (3, 4, 11), "wrong shapes"
        flat, deep, wide = (p.call(*(x[at] for x in (p.query, p.key, p.value))) for at in (0, np.s_[:, None], np.s_[:]))
        same([x[0, 0] for x in deep[:2]], flat[:2], "4 axes, against 2")
        same([x[0] for x in wide[:2]], flat[:2], "3 axes, against 2")
        none = p.call(p.query[:, :0], p.key, p.value)
        assert none.context.shape == (3, 0, 3), f"the context of no queries has shape {none.context.shape}"


def poison_in_padding(s: AttentionSubject) -> None:
    """NaN and Inf in hidden keys and values change no bit."""
    p = s.problem()
    p.key[p.hidden], p.value[p.hidden] = 0, 0
    d = p.cotangents()
    clean = p.forward(), p.gradients(*d)
    p.key[p.hidden], p.value[p.hidden] = np.nan, np.inf
    same(p.forward(), clean[0], "outputs with NaN in padding")
    same(p.gradients(*d), clean[1], "gradients with NaN in padding")


def empty_rows(s: AttentionSubject) -> None:
    """A row without any key, by lengths or by the mask, gives zeros and has no gradient."""
    p = s.problem()
    p.lengths[1], p.key[1], p.value[1] = 0, np.nan, np.nan
    p.mask[2] = False
    output = p.forward()
    assert (output.context[1:] == 0).all() and (output.weights[1:] == 0).all(), "a row without keys is not 0"
    for name, gradient in p.gradients(*p.cotangents()).items():
        assert np.isfinite(gradient).all(), f"with a row without keys the gradient of {name} is not finite"
        if name in ("query", "key", "value"):
            assert (gradient[1:] == 0).all(), f"a row without keys has a gradient of its {name}"


def gradients(s: AttentionSubject) -> str:
    """In float64 they are the central differences of its own contexts and weights."""
    p = s.problem(np.float64, batch=2, rows=3, keys=5)
    d_context, d_weights = p.cotangents()
    found = p.gradients(d_context, d_weights)

    def loss() -> float:
        output = p.forward()
        return float((output.context * d_context).sum() + (output.weights * d_weights).sum())

    inputs = {"query": p.query, "key": p.key, "value": p.value}
    if isinstance(p.normalizer, str):
        inputs |= p.parameters
        assert found.keys() == inputs.keys(), (
            f"gradients are of {', '.join(found)}, parameters {', '.join(p.parameters) or 'none'}"
        )
    worst = max(
        close(found[name], differences(loss, array), 2e-7, f"the gradient of {name}") for name, array in inputs.items()
    )
    return f"to {worst:.1g}"


def prepared_memory(s: AttentionSubject) -> None:
    """A prepared memory, also a selection of it, gives the bits of a plain call; row by row too."""
    p = s.problem()
    whole = p.call(p.query, p.key, p.value, key_lengths=p.lengths)
    memory = p.prepare()
    same(p.attend(memory, p.query), whole, "a prepared memory")
    for t in range(p.query.shape[1]):
        one = p.attend(memory, p.query[:, t : t + 1])
        same(one[:2], [x[:, t : t + 1] for x in whole[:2]], f"query {t} alone")
    rows = np.array([2, 0, 2])
    same(p.attend(memory.select(rows), p.query[rows])[:2], [x[rows] for x in whole[:2]], "selected rows")


def any_batch_and_position(s: AttentionSubject) -> None:
    """A sample has the same bits alone and at another place of a batch."""
    p = s.problem(batch=4)
    whole = p.forward()
    for rows in (np.array([2, 0, 3, 1]), *(np.array([b]) for b in range(4))):
        same(p.at(rows).forward()[:2], [x[rows] for x in whole[:2]], f"samples {rows.tolist()} of the batch")


def any_padding(s: AttentionSubject) -> None:
    """The same bits with any number of padding keys."""
    p = s.problem()
    p.lengths[...] = 11
    whole = p.forward()
    for more in (1, 30):
        key, value = (padded(array, {1: (0, more)}, np.nan) for array in (p.key, p.value))
        found = dataclasses.replace(p, key=key, value=value, mask=padded(p.mask, {2: (0, more)}, True)).forward()
        same(found.context, whole.context, f"contexts with {more} keys of padding")
        same(np.ascontiguousarray(found.weights[..., :11]), whole.weights, f"weights with {more} keys of padding")


def order_of_sums(s: AttentionSubject) -> str:
    """Gradients, those of parameters too, keep their bits where zeros are added: padding, samples, queries.

    At sizes, and at a width of 1, where NumPy's own sums would have another order; see `variant_sums`.
    """
    widths = []
    for pair in dict.fromkeys((s.widths, (1, 1))):
        try:
            p = s.problem(batch=10, rows=30, keys=150, widths=pair)
            p.forward()
        except FastattnError:  # widths or lengths that it cannot have
            continue
        widths.append(pair)
        p.lengths[...] = 150
        _compare_sums(p)
    if not widths:
        raise Skipped("it takes no 150 keys")
    return "at widths " + " and ".join(f"{query}, {key}" for query, key in widths)


def _compare_sums(p: AttentionProblem) -> None:
    """Fail unless gradients keep their bits where zeros are added; the batch is even, and the problem is changed."""
    half, keys = len(p.query) // 2, p.key.shape[1]
    for array in (p.query, p.key, p.value, p.mask):
        array[half:] = array[:half]
    d_context, d_weights = p.cotangents()
    for array in (d_context, d_weights):  # what sums over samples leave is rounding, in which another order shows
        array[half:] = -array[:half]
    wanted = p.gradients(d_context, d_weights)
    for what, before, after, more, padding in (
        *((f"with {n} keys of padding", 0, 0, 0, n) for n in (1, 8, 200)),
        ("before samples without gradient", 0, 3, 0, 0),
        ("behind samples without gradient", 3, 0, 0, 0),
        ("before queries without gradient", 0, 0, 3, 0),
    ):
        batch, rows, columns = {0: (before, after)}, {1: (0, more)}, {2: (0, padding)}
        changes: dict[str, Any] = {
            name: padded(padded(array, {1: (0, padding)}, np.nan), batch, None)
            for name, array in (("key", p.key), ("value", p.value))
        }
        changes["query"] = padded(p.query, batch | rows, None)
        changes["mask"] = padded(padded(p.mask, batch | rows, None), columns, False)
        changes["lengths"] = padded(p.lengths, batch, keys)
        try:
            found = dataclasses.replace(p, **changes).gradients(
                padded(d_context, batch | rows), padded(d_weights, batch | rows | columns)
            )
        except FastattnError:  # longer than it can be
            continue
        for name, gradient in wanted.items():
            own = found[name]
            if name in ("query", "key", "value"):
                own = np.ascontiguousarray(own[before : before + 2 * half, : gradient.shape[1]])
            same(own, gradient, f"the gradient of {name} {what}")


def inputs_untouched(s: AttentionSubject) -> None:
    """Inputs and parameters are not written, also where they may only be read."""
    p = s.problem()
    d_context, d_weights = p.cotangents()
    for _ in range(2):
        arrays = {"query": p.query, "key": p.key, "value": p.value, "mask": p.mask, "lengths": p.lengths}
        with untouched(**arrays, d_context=d_context, d_weights=d_weights, **p.parameters):
            p.forward()
            p.gradients(d_context, d_weights)
            p.attend(p.prepare(), p.query)
        for array in arrays.values():
            array.flags.writeable = False


ATTENTION_CHECKS: tuple[Callable[[AttentionSubject], object], ...] = (
    shapes_and_dtypes, poison_in_padding, empty_rows, gradients, prepared_memory, any_batch_and_position, any_padding,
    any_number_of_threads, any_strides, order_of_sums, repeated_runs, forked_child, inputs_untouched, large_scores,
)  # fmt: skip
