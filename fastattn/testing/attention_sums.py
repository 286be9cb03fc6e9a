"""What the checks of sums of scores and of normalizers share."""

import dataclasses
from typing import Any

import numpy as np

from fastattn.errors import FastattnError
from fastattn.testing.arrays import padded, same

__all__ = ["compare_sums"]


def compare_sums(p: Any) -> None:
    """Fail unless gradients keep their bits where zeros are added: padding, samples, queries.

    `p` is a problem with query, key, value and mask, of an even batch, and with lengths perhaps; it is changed.
    """
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
        if hasattr(p, "lengths"):
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
