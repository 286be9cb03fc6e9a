"""The check that a variant's sums have one order, at sizes where another one shows."""

import dataclasses

import numpy as np

from fastattn.errors import FastattnError
from fastattn.testing.arrays import Array, padded, same
from fastattn.testing.certificate import Skipped
from fastattn.testing.variant_subject import VariantProblem, VariantSubject

__all__ = ["order_of_sums"]


def order_of_sums(s: VariantSubject) -> str:
    """Gradients, those of parameters too, keep their bits where zeros are added: padding, samples, steps.

    NumPy adds up in blocks where the axis that it sums is the innermost one: more than 8 numbers by eights, more than
    128 by halves. A sum over samples and positions has that form if the rows are one element wide.
    """
    widths = []
    for pair in dict.fromkeys((s.widths, (min(s.widths[0], 1), 1))):
        try:
            p = s.problem(batch=10, steps=5, keys=150, masked=False, widths=pair)
            p.lengths[...] = 150
            for array in (p.queries, p.memory):
                array[5:] = array[:5]
            d = p.cotangents()
        except FastattnError:  # widths or lengths that it cannot have
            continue
        widths.append(pair)
        for array in d:  # what sums over samples leave is rounding, in which another order shows
            array[5:] = -array[:5]
        wanted = p.gradients(*d)
        for more in (1, 8, 200):
            _compare(p, d, wanted, f"with {more} positions of padding", padding=more)
        _compare(p, d, wanted, "before samples without gradient", after=3)
        _compare(p, d, wanted, "behind samples without gradient", before=3)
        _compare(p, d, wanted, "before steps without gradient", steps=3)
    if not widths:
        raise Skipped("it takes no memory of 150 positions")
    return "at widths " + " and ".join(f"{query}, {memory}" for query, memory in widths)


def _compare(
    p: VariantProblem, d: tuple[Array, Array], wanted: dict[str, Array], what: str, *, padding: int = 0,
    before: int = 0, after: int = 0, steps: int = 0,
) -> None:  # fmt: skip
    """Fail unless gradients have the same bits in a larger problem that has zeros for the rest."""
    batch, keys, count = len(p.memory), p.memory.shape[1], p.queries.shape[1]
    d_context, d_weights = d
    rows = before, after
    q = dataclasses.replace(
        p,
        queries=padded(p.queries, {0: rows, 1: (0, steps)}, None),
        memory=padded(padded(p.memory, {1: (0, padding)}, np.nan), {0: rows}, None),
        values=None if p.values is None else padded(padded(p.values, {1: (0, padding)}, np.nan), {0: rows}, None),
        lengths=padded(p.lengths, {0: rows}, keys),
    )
    try:
        found = q.gradients(
            padded(d_context, {0: rows, 1: (0, steps)}),
            padded(d_weights, {0: rows, d_weights.ndim - 2: (0, steps), d_weights.ndim - 1: (0, padding)}),
        )
    except FastattnError:  # longer than it can be
        return
    own = slice(before, before + batch)
    found["queries"] = np.ascontiguousarray(found["queries"][own, :count])
    for name in {"memory", "values"} & found.keys():
        found[name] = np.ascontiguousarray(found[name][own, :keys])
    for name, gradient in wanted.items():
        same(found[name], gradient, f"the gradient of {name} {what}")
