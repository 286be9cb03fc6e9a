"""Fused attention, forward: scores of a tile of rows against all its keys, softmax, context; nothing else is kept.

A tile's scores, 6 rows x Tk, lie in a worker's memory. A row's sum of exponentials runs in chunks of 512 keys, which
are added in float64; so does its context, in chains of 128 keys, and the rounding errors of the chunks' sums are kept.
A weight is divided before it meets a value, so that no context of finite values leaves the type.
"""

import math

import numpy as np

from fastattn._kernels.numba.blocks import scores
from fastattn._kernels.numba.blocks.compiled import inlined, kernel
from fastattn._kernels.numba.blocks.elements import fma, like
from fastattn._kernels.numba.blocks.lanes import REGISTER, place
from fastattn._kernels.numba.blocks.rows import (
    Problem,
    drop_row,
    is_finite,
    key_offset,
    row_options,
    row_range,
    twice_bounded,
    value_offset,
)
from fastattn._kernels.numba.blocks.tile import exp_row, finite_row, multiply, padded, scale_row, tile_rows, top_row

__all__ = ["CHUNK", "attention_forward", "forward_space"]

CHUNK = 512
PIECE = 128  # keys of one chain of a context: of equal terms, all additions may round the same way
TILE = 6
COPY_ROWS = 24  # from here on, copying values that are not on the boundary of a register pays


def _up(n: int, to: int) -> int:
    return -(-n // to) * to


def forward_space(p: Problem) -> int:
    """Elements that one worker of a forward pass needs."""
    features = -(-p.D // 4) * 4
    keys = 0 if p.panel_elements else _up(p.Tk, p.panel) * (features + 2)
    gathered = (p.Tk * p.D) if p.scattered else 0
    strip = TILE * (_up(p.Tk, p.panel) + 2 * p.panel)
    copied = p.Dv % p.lanes != 0 or p.scattered or p.H // p.Hk * p.Tq >= COPY_ROWS
    values = p.Tk * _up(p.Dv, p.lanes) if copied else 0
    return keys + gathered + strip + values + TILE * (2 * features + 4) + 3 * TILE * _up(p.Dv, p.lanes) + 2 * features


@kernel(
    Problem, "x d x x1 x1 x1 x1 b4~ x4~ i1 u1 i1 i1 x1 i1 b1 x1! x1! x1! x1! x1! x1! x1 i i i"
)  # fmt: skip
def attention_forward(
    p, scale, softcap, keep, query, key, value, vector, mask, bias, lengths, seeds, rows, table, packed, calls,
    blocks, context, weights, lse, row_max, row_sum, work, space, pieces, first_task, last_task,
):  # fmt: skip
    """Tasks first_task..last_task-1, each a piece of the rows of one (batch, key head); space is work, to be read."""
    group = p.H // p.Hk
    lanes, width = p.lanes, p.panel
    features = (p.D + 3) // 4 * 4
    size = scores.panel_rows(p.score, p.D) * width
    q_row = scores.query_width(p.score, p.D)
    ldv = (p.Dv + lanes - 1) // lanes * lanes
    lds = (p.Tk + width - 1) // width * width + 2 * width
    # The worker's memory, one part after the other.
    at_panels = 0
    at_keys = at_panels + (0 if p.panel_elements else (p.Tk + width - 1) // width * width * (features + 2))
    at_strip = at_keys + (p.Tk * p.D if p.scattered else 0)
    at_values = at_strip + TILE * lds
    copied = p.Dv % lanes != 0 or p.scattered != 0
    at_queries = at_values + (p.Tk * ldv if copied or group * p.Tq >= COPY_ROWS else 0)
    at_sums = at_queries + TILE * (2 * features + 4)
    at_v = at_sums + 3 * TILE * ldv
    often = group * p.Tq >= COPY_ROWS
    zero = like(scale, 0)
    lowest = like(scale, -np.inf)
    v = work[at_v : at_v + features]
    scratch = work[at_v + features : at_v + 2 * features]
    for t in range(features):
        v[t] = vector[t] if t < vector.size else zero
    flags = np.zeros(TILE, np.int64)
    raw = np.zeros(TILE, np.int64)
    heads = np.zeros(TILE, np.int64)
    queries = np.zeros(TILE, np.int64)
    los = np.zeros(TILE, np.int64)
    his = np.zeros(TILE, np.int64)
    live = np.zeros(TILE * lds, np.uint8)
    for task in range(first_task, last_task):
        head_task, piece = task // pieces, task % pieces
        b, hk = head_task // p.Hk, head_task % p.Hk
        length = lengths[b] if p.sized else p.Tk
        total_rows = group * p.Tq
        tiles = (total_rows + TILE - 1) // TILE
        row0, row1 = tiles * piece // pieces * TILE, min(tiles * (piece + 1) // pieces * TILE, total_rows)
        # The keys that some row of the piece may read.
        low, high = length, 0
        for r in range(row0, row1):
            lo, hi = row_range(p, length, r // group)
            if lo < hi:
                low, high = min(low, lo), max(high, hi)
        low = low // width * width
        keys, key_at, stride = key, key_offset(p, rows, table, b, hk, 0), p.D
        if p.scattered:
            keys, key_at = space, at_keys
            for j in range(low, high):
                source = key_offset(p, rows, table, b, hk, j)
                for t in range(p.D):
                    work[at_keys + j * p.D + t] = key[source + t]
        panels, panel0 = space, at_panels
        if p.panel_elements:
            entry = rows[b] if p.selected else b
            panels, panel0 = packed, (entry * p.Hk + hk) * p.panel_elements
        elif low < high:
            scores.pack_keys(
                p.score, p.activation, keys, key_at + low * stride, stride, high - low, p.D, v, work,
                at_panels + low // width * size, width,
            )  # fmt: skip
        values, value_at = value, value_offset(p, rows, table, b, hk, 0)
        if copied or (often and place(value, value_at) % REGISTER != 0):
            values, value_at = space, at_values
            for j in range(low, high):
                source = value_offset(p, rows, table, b, hk, j)
                padded(value, source, p.Dv, work, at_values + j * ldv, ldv)
        r0 = row0
        while r0 < row1:
            count = tile_rows(row1 - r0)
            lo_tile, hi_tile = length, 0
            for r in range(count):
                heads[r] = hk * group + (r0 + r) % group
                queries[r] = (r0 + r) // group
                los[r], his[r] = row_range(p, length, queries[r])
                if los[r] < his[r]:
                    lo_tile, hi_tile = min(lo_tile, los[r]), max(hi_tile, his[r])
                raw[r] = ((b * p.H + heads[r]) * p.Tq + queries[r]) * p.D
            begin = lo_tile // width * width if lo_tile < hi_tile else 0
            end = hi_tile if lo_tile < hi_tile else 0
            n = end - begin
            up = (n + lanes - 1) // lanes * lanes
            if n > 0:
                for r in range(count):
                    flags[r] = scores.pack_query(
                        p.score, p.activation, query, raw[r], p.D, scale, v, work, at_queries + r * q_row, scratch
                    )
                scores.score_tile(
                    p.score, p.activation, count, work, at_queries, q_row, flags, 0, query, raw, panels,
                    panel0 + begin // width * size, width, keys, key_at + begin * stride, stride, n, p.D, v,
                    like(scale, 1) if p.score == 0 else scale, work, at_strip, lds, lanes, calls,
                )  # fmt: skip
            for r in range(count):
                at = at_strip + r * lds
                row = (b * p.H + heads[r]) * p.Tq + queries[r]
                if weights.size:
                    for j in range(p.Tk):
                        weights[row * p.Tk + j] = zero
                top, total = lowest, 0.0
                if n > 0:
                    row_options(
                        p, softcap, mask, bias, calls, blocks, b, heads[r], queries[r], los[r], his[r], begin, end,
                        work, at, work, 0, False, work, 0, False,
                    )  # fmt: skip
                    of_row, s = live[r * lds : r * lds + n], work[at : at + n]
                    for j in range(n):
                        of_row[j] = s[j] != lowest
                    top = top_row(work, at, up, lowest)
                    base = top if top != lowest else zero
                    for j in range(begin // CHUNK * CHUNK, end, CHUNK):
                        first, last = max(j, begin), min(j + CHUNK, end)
                        total += exp_row(work, at + first - begin, (last - first + lanes - 1) // lanes * lanes, base)
                found = like(scale, total)
                if row_max.size:
                    row_max[row] = top
                    row_sum[row] = found
                empty = top == lowest and found == zero
                if lse.size:
                    lse[row] = lowest if empty else like(scale, np.float64(top) + math.log(np.float64(found)))
                scale_row(work, at, up, zero if empty else like(scale, 1) / found)
                if weights.size:
                    for j in range(n):
                        weights[row * p.Tk + begin + j] = work[at + j]
                if p.dropped and n > 0:
                    drop_row(p, keep, seeds, b, heads[r], queries[r], begin, end, work, at)
            # Contexts: a chain for each chunk, then the chunks and their rounding errors.
            total_at, lost_at, part_at = at_sums, at_sums + TILE * ldv, at_sums + 2 * TILE * ldv
            both = work[at_sums : at_sums + 2 * TILE * ldv]
            for c in range(both.size):
                both[c] = zero
            started = False
            for j in range(begin // CHUNK * CHUNK, end, CHUNK):
                first, last = max(j, begin), min(j + CHUNK, end)
                to = part_at if started else total_at
                mode = 0
                for piece_at in range(first // PIECE * PIECE, last, PIECE):
                    from_key, to_key = max(piece_at, first), min(piece_at + PIECE, last)
                    multiply(
                        count, ldv, work, at_strip + from_key - begin, lds, 1, values, value_at + from_key * ldv, ldv,
                        work, to, ldv, to_key - from_key, mode, lanes,
                    )  # fmt: skip
                    mode = 2
                for r in range(count):
                    if finite_row(work, to + r * ldv, ldv, zero) != zero:
                        _without_masked(
                            live, r * lds, first, last, begin, work, at_strip + r * lds, values, value_at, ldv,
                            to + r * ldv,
                        )  # fmt: skip
                if started:
                    _join(work, total_at, lost_at, part_at, count * ldv)
                started = True
            for r in range(count):
                to = ((b * p.H + heads[r]) * p.Tq + queries[r]) * p.Dv
                of_row, out = slice(r * ldv, r * ldv + p.Dv), context[to : to + p.Dv]
                whole, lost = work[total_at:lost_at][of_row], work[lost_at:part_at][of_row]
                for c in range(p.Dv):
                    out[c] = (whole[c] + lost[c]) + zero
                if not p.dropped:
                    for c in range(p.Dv):
                        if not is_finite(out[c]):
                            out[c] = _bounded(
                                live, r * lds, begin, end, work, at_strip + r * lds, values, value_at + c, ldv
                            )
            r0 += count


@inlined
def _bounded(live, live_at, begin, end, work, at, values, value_at, ldv):
    """A column of a context once more, from half the weights."""
    half, whole = like(work[0], 0.5), like(work[0], 0)
    for piece_at in range(begin // PIECE * PIECE, end, PIECE):
        total = like(work[0], 0)
        for j in range(max(piece_at, begin), min(piece_at + PIECE, end)):
            if live[live_at + j - begin]:
                total = fma(half * work[at + j - begin], values[value_at + j * ldv], total)
        whole = whole + total
    return twice_bounded(whole)


@inlined
def _join(work, total_at, lost_at, part_at, n):
    """total += part, and what the additions round away to lost."""
    total, lost, part = work[total_at : total_at + n], work[lost_at : lost_at + n], work[part_at : part_at + n]
    for c in range(n):
        a, x = total[c], part[c]
        s = a + x
        back = s - a
        gone = (a - (s - back)) + (x - back)
        total[c] = s
        lost[c] = lost[c] + (gone if gone == gone else like(gone, 0))  # infinite sums round nothing away


@inlined
def _without_masked(live, live_at, first, last, begin, work, at, values, value_at, ldv, to):
    """The chains of one row once more, without the pairs that may not be read: 0 times NaN is NaN."""
    for c in range(ldv):
        work[to + c] = like(work[0], 0)
        for piece_at in range(first // PIECE * PIECE, last, PIECE):
            total = like(work[0], 0)
            for j in range(max(piece_at, first), min(piece_at + PIECE, last)):
                if live[live_at + j - begin]:
                    total = fma(work[at + j - begin], values[value_at + j * ldv + c], total)
            work[to + c] = work[to + c] + total
