"""What attention's kernels share: sizes of a call, which keys a row may read, options on a row of scores.

A task is one (batch, key head); its rows are the queries of all heads that share the key head, flattened: row r is
query r // group of the (r % group)-th of them.
"""

from typing import NamedTuple

import numpy as np

from fastattn._kernels.numba.blocks.calls import (
    ALLOW,
    MODIFY,
    MODIFY_SLOPED,
    allow_row,
    modify_row,
    modify_row_sloped,
)  # fmt: skip
from fastattn._kernels.numba.blocks.compiled import inlined
from fastattn._kernels.numba.blocks.elements import choose, fma, key_hash, like, row_key, tanh

__all__ = [
    "Problem", "drop_row", "is_finite", "key_offset", "row_options", "row_range", "twice_bounded", "value_offset",
]  # fmt: skip

_LARGEST = float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)


class Problem(NamedTuple):
    """Sizes and options of a call; key_rows and value_rows: positions that an entry and head of the memory has."""

    B: int
    H: int
    Hk: int
    Tq: int
    Tk: int
    D: int
    Dv: int
    score: int
    activation: int
    causal: int
    left: int
    right: int
    drop_below: int
    key_rows: int
    value_rows: int
    panel_elements: int  # of an entry and head; 0: keys are not packed
    lanes: int
    panel: int
    masked: int
    biased: int
    sized: int  # there are key lengths
    dropped: int
    selected: int  # there are rows of the memory
    scattered: int  # there is a table of rows of each position


@inlined
def row_range(p, length, query):
    """The keys lo..hi-1 that a query may read, before masks."""
    position = query + (length - p.Tq if p.causal == 2 else 0)
    lo, hi = 0, length
    if p.causal != 0:
        hi = min(hi, position + 1)
    if p.right >= 0:
        hi = min(hi, position + p.right + 1)
    if p.left >= 0:
        lo = max(lo, position - p.left)
    hi = max(hi, 0)
    return min(lo, hi), hi


@inlined
def key_offset(p, rows, table, b, hk, j):
    """Where key j of a batch entry begins."""
    entry = table[j * p.B + b] if p.scattered else (rows[b] if p.selected else b)
    return ((entry * p.Hk + hk) * p.key_rows + j) * p.D


@inlined
def value_offset(p, rows, table, b, hk, j):
    """Where value j of a batch entry begins."""
    entry = table[j * p.B + b] if p.scattered else (rows[b] if p.selected else b)
    return ((entry * p.Hk + hk) * p.value_rows + j) * p.Dv


@inlined
def row_options(
    p, softcap, mask, bias, calls, blocks, b, h, i, lo, hi, first, last, s, at, slope, slope_at, sloped, before,
    before_at, kept,
):  # fmt: skip
    """Softcap, modifier, bias and masks on the scores of keys first..last-1 of a row, which begin at s[at]; what may
    not be read becomes -inf, up to the next whole vector. slope receives the derivative of the softcap if it is
    `sloped`, and before the scores that the modifier is given if they are to be `kept`, or, of one with slopes, is room
    for these, by which slope is multiplied."""
    n = last - first
    up = (n + p.lanes - 1) // p.lanes * p.lanes
    row = s[at : at + up]
    zero = like(row[0], 0)
    lowest = like(zero, -np.inf)
    if softcap > 0:
        # The reciprocal of a cap near 0 is beyond the type: then scores are first multiplied by a power of two.
        least = choose(zero, 2.0**-100, 2.0**-900)
        up_by = like(zero, 1) / least if softcap < least else like(zero, 1)
        cap = like(zero, softcap)
        inverse = like(zero, 1 / (softcap * up_by))
        for j in range(up):
            row[j] = tanh((row[j] * up_by) * inverse)
        if sloped:
            of_cap = slope[slope_at : slope_at + up]
            for j in range(up):
                of_cap[j] = fma(-row[j], row[j], like(zero, 1))
        for j in range(up):
            row[j] = row[j] * cap
    if calls.size and calls[MODIFY] != 0:
        given = before[before_at : before_at + n]
        if kept and calls[MODIFY_SLOPED] != 0:
            modify_row_sloped(calls, s, at, before, before_at, n, b, h, i, first)
            of_both = slope[slope_at : slope_at + up]
            for j in range(up):
                own = given[j] if j < n else zero
                of_both[j] = of_both[j] * own if softcap > 0 else own
        else:
            if kept:
                for j in range(n):
                    given[j] = row[j]
            modify_row(calls, s, at, n, b, h, i, first)
    if p.biased:
        added = bias[b, h, i]
        for j in range(n):
            x = added[first + j]
            row[j] = lowest if x == lowest else row[j] + x
    if p.masked:
        allowed = mask[b, h, i]
        for j in range(n):
            row[j] = row[j] if allowed[first + j] else lowest
    if calls.size and calls[ALLOW] != 0:
        allow_row(calls, blocks, s, at, n, b, h, i, first)
    for j in range(min(max(lo - first, 0), up)):
        row[j] = lowest
    for j in range(min(max(hi - first, 0), n), up):
        row[j] = lowest


@inlined
def drop_row(p, keep, seeds, b, h, i, first, last, s, at):
    """Elements of dropped keys become 0, the others `keep` times themselves."""
    key = row_key(seeds[b], h, i)
    row = s[at : at + last - first]
    zero = like(row[0], 0)
    for j in range(last - first):
        row[j] = zero if key_hash(key, first + j) < p.drop_below else row[j] * keep


@inlined
def is_finite(x):
    """Whether a number is."""
    return abs(x) <= choose(x, _LARGEST[0], _LARGEST[1])


@inlined
def twice_bounded(half):
    """Twice a half of a mean: of finite numbers it is finite, whatever the additions round; others stay as they are."""
    largest = choose(half, _LARGEST[0], _LARGEST[1])
    return min(largest, max(-largest, half + half)) if abs(half) <= largest else half
