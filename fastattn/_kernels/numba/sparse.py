"""Sparse weights: alpha-entmax of rows and attention with it (csrc/attention/normalizers has formulas and sources).

A row is computed in float64, over the scores that can have a weight, ascending: neither padding nor masked keys count.
"""

import math
from typing import Any

import numpy as np

from fastattn._kernels.numba.blocks import scores
from fastattn._kernels.numba.blocks.compiled import inlined, kernel
from fastattn._kernels.numba.blocks.elements import fma, key_hash, like, row_key
from fastattn._kernels.numba.blocks.rows import (
    Problem,
    is_finite,
    key_offset,
    row_options,
    row_range,
    twice_bounded,
    value_offset,
)
from fastattn._kernels.numba.blocks.tile import keep_sums, settle_sums
from fastattn._kernels.numba.checks import Array, flat, floats, maybe, table
from fastattn._kernels.numba.steps import pair_backward

__all__ = ["entmax", "entmax_backward", "sparse_backward", "sparse_forward", "sparse_space"]

_BOOL, _FLOAT64 = np.dtype(np.bool_), np.dtype(np.float64)
TURN = 48  # rows whose sums are chains; these are added in float64


@inlined
def entmax_row(alpha, x, n, p, least):
    """p[j], float64, of scores x[j] for j below n; -inf is masked. Weights below `least` are 0."""
    top, bad = -np.inf, False
    for j in range(n):
        top = max(top, x[j]) if x[j] == x[j] else top
        bad = bad or x[j] != x[j] or x[j] == np.inf
        p[j] = 0
    if bad or top == -np.inf:
        for j in range(n):
            if bad and x[j] != -np.inf:
                p[j] = np.nan
        return
    e = alpha - 1
    limit = -1 / e if e > 0 else -np.inf
    factor = 0.5 if alpha == 1.5 else 1.0
    t = -1.0 if alpha in (1.5, 2.0) else 0.0
    before = 0
    total = 1.0
    exact = False
    for turn in range(64):
        if alpha == 2.0:
            left, found = 0, 0.0
            for j in range(n):
                z = x[j] - top
                if z > max(t, limit):
                    left += 1
                    found += z
            if left == before:
                break
            t = max(t, (found - 1) / left)
            before = left
        elif alpha == 1.5:
            left, s1, s2 = 0, 0.0, 0.0
            for j in range(n):
                z = (x[j] - top) * factor - t
                if z > 0 and x[j] - top > limit:
                    left += 1
                    s1 += z
                    s2 += z * z
            under = s1 * s1 - left * (s2 - 1)
            if under >= 0:
                step = (s2 - 1) / (s1 + math.sqrt(under))
                over = 0
                for j in range(n):
                    if x[j] - top > limit and (x[j] - top) * factor > t + step:
                        over += 1
                if over == left:
                    t += step
                    if exact:
                        break
                    exact = True
                    continue
            norm = math.sqrt(s2)
            after = t + (norm - 1) * norm / s1
            if not after > t:
                break
            t = after
        else:
            total, slope = 0.0, 0.0
            for j in range(n):
                u = x[j] - top - t
                if x[j] == -np.inf or e * u <= -1:
                    continue
                weight = math.exp(u if e == 0 else math.log1p(e * u) / e)
                total += weight
                slope += weight / (1 + e * u)
            if exact:
                break
            size = math.log(total)
            step = (size if e == 0 else -math.expm1(-e * size) / e) * (total / slope)
            exact = not step > 1e-14 * (1 + t) or turn == 62
            if step > 0:
                t += step
    for j in range(n):
        z = x[j] - top
        if x[j] == -np.inf:
            continue
        if alpha == 2.0:
            weight = z - t if z > limit else 0.0
        elif alpha == 1.5:
            weight = z * factor - t if z > limit else 0.0
            weight = weight * weight if weight > 0 else 0.0
        else:
            u = z - t
            weight = 0.0 if e * u <= -1 else math.exp(u if e == 0 else math.log1p(e * u) / e) / total
        p[j] = weight if weight >= least else 0.0


@inlined
def entmax_bend(p, e):
    """(log(1 + v) - v / (1 + v)) / e^2 with 1 + v = p^e, as a series where v is small."""
    size = math.log(p)
    v = 0.0 if e == 0 else math.expm1(e * size)
    u = size if e == 0 else v / e
    if v < -0.05:
        return (math.log1p(v) - v / (1 + v)) / (e * e)
    total, power = 0.0, 1.0
    for n in range(2, 15):
        total += power * (n - 1) / n
        power *= -v
    return u * u * total


@inlined
def entmax_back(alpha, p, d, n):
    """d[j], float64, from the gradient of weights to that of scores; returns the gradient of alpha."""
    e = alpha - 1
    along, slopes = 0.0, 0.0
    for j in range(n):
        if p[j] != 0:
            s = 1.0 if alpha == 2.0 else (math.sqrt(p[j]) if alpha == 1.5 else p[j] ** (2 - alpha))
            along += s * d[j]
            slopes += s
    delta = along / slopes if slopes != 0 else 0.0
    bends, of_bends = 0.0, 0.0
    for j in range(n):
        if p[j] != 0:
            bend = p[j] * entmax_bend(p[j], e)
            bends += bend
            of_bends += bend * d[j]
            s = 1.0 if alpha == 2.0 else (math.sqrt(p[j]) if alpha == 1.5 else p[j] ** (2 - alpha))
            d[j] = s * (d[j] - delta)
        else:
            d[j] = 0
    return bends * delta - of_bends


@kernel("x1 b1 x1! d d i i d1! d1!")
def _entmax(x, mask, y, alpha, least, rows, columns, found, weights):
    for r in range(rows):
        for c in range(columns):
            allowed = mask.size == 0 or mask[r * columns + c] != 0
            found[c] = np.float64(x[r * columns + c]) if allowed else -np.inf
        entmax_row(alpha, found, columns, weights, least)
        for c in range(columns):
            y[r * columns + c] = like(y[0], weights[c])


def least_weight(dtype: "np.dtype[Any]") -> float:
    """Return the smallest weight that is not 0."""
    return float(np.finfo(dtype).tiny)


def entmax(x: Array, mask: Array | None, y: Array, alpha: float, rows: int, columns: int) -> None:
    """y = alpha-entmax of rows; mask is a bool array of x's shape, or None."""
    dtype, n = floats(x, "x"), table(rows, columns)
    source, out = flat(x, "x", dtype, n), flat(y, "y", dtype, n, True)
    allowed = maybe(mask, "mask", _BOOL, n).view(np.uint8)
    if n:
        _entmax[dtype](
            source, allowed, out, float(alpha), least_weight(dtype), rows, columns, np.empty(columns),
            np.empty(columns),
        )  # fmt: skip


@kernel("x1 x1 x1! d1! d i i d1! d1!")
def _entmax_backward(y, dy, dx, d_alpha, alpha, rows, columns, p, d):
    for r in range(rows):
        for c in range(columns):
            p[c] = np.float64(y[r * columns + c])
            d[c] = np.float64(dy[r * columns + c]) if p[c] != 0 else 0.0
        found = entmax_back(alpha, p, d, columns)
        if d_alpha.size:
            d_alpha[r] = found
        for c in range(columns):
            dx[r * columns + c] = like(dx[0], d[c])


def entmax_backward(
    y: Array, dy: Array, dx: Array, d_alpha: Array | None, alpha: float, rows: int, columns: int
) -> None:
    """dx from y = entmax(x) and dy; d_alpha (rows,), float64, unless None, is what each row adds."""
    dtype, n = floats(y, "y"), table(rows, columns)
    given = flat(y, "y", dtype, n), flat(dy, "dy", dtype, n), flat(dx, "dx", dtype, n, True)
    of_alpha = maybe(d_alpha, "d_alpha", _FLOAT64, rows, True)
    if n:
        _entmax_backward[dtype](*given, of_alpha, float(alpha), rows, columns, np.empty(columns), np.empty(columns))
    else:
        of_alpha[...] = 0


def sparse_space(p: Problem) -> int:
    """Elements that one worker needs."""
    features = -(-p.D // 4) * 4
    keys = -(-p.Tk // p.panel) * p.panel
    return keys * (features + 2) + 2 * keys + 8 * features + 4 * p.D + 16


@inlined
def _row_scores(
    p, scale, softcap, query, raw, key, key_at, panels, v, scratch, mask, bias, b, h, i, lo, hi, work, at_query, at_s,
    at_slope, flags, found, calls, blocks,
):  # fmt: skip
    """Scores of one row against keys 0..hi-1, in found; the slope of the softcap in work."""
    width, lanes = p.panel, p.lanes
    size = scores.panel_rows(p.score, p.D) * width
    flags[0] = scores.pack_query(p.score, p.activation, query, raw[0], p.D, scale, v, work, at_query, scratch)
    begin = lo // width * width
    scores.score_tile(
        p.score, p.activation, 1, work, at_query, 0, flags, 0, query, raw, panels, begin // width * size, width, key,
        key_at + begin * p.D, p.D, hi - begin, p.D, v, like(scale, 1) if p.score == 0 else scale, work, at_s + begin, 0,
        lanes, calls,
    )  # fmt: skip
    row_options(
        p, softcap, mask, bias, calls, blocks, b, h, i, lo, hi, begin, hi, work, at_s + begin, work, at_slope + begin,
        softcap > 0, work, 0, False,
    )  # fmt: skip
    for j in range(begin):
        found[j] = -np.inf
    for j in range(begin, hi):
        found[j] = np.float64(work[at_s + j])


@kernel(
    Problem,
    "x d x x1 x1 x1 x1 b4~ x4~ i1 u1 i1 i1 x1 i1 b1 d1 d x1! x1! x1! x1 d1! d1! i i",
)
def sparse_forward(
    p, scale, softcap, keep, query, key, value, vector, mask, bias, lengths, seeds, rows, table, packed, calls,
    blocks, alpha, least, context, weights, work, space, found, weight, first_task, last_task,
):  # fmt: skip
    """Tasks first_task..last_task-1, each one (batch, key head); space is work, to be read."""
    group = p.H // p.Hk
    features = (p.D + 3) // 4 * 4
    keys = (p.Tk + p.panel - 1) // p.panel * p.panel
    at_s = keys * (features + 2)
    at_slope = at_s + keys
    at_query = at_slope + keys
    v, scratch = work[at_query + 2 * features + 8 :][:features], work[at_query + 3 * features + 8 :][:features]
    zero = like(scale, 0)
    for t in range(features):
        v[t] = vector[t] if t < vector.size else zero
    flags, raw = np.zeros(1, np.int64), np.zeros(1, np.int64)
    for task in range(first_task, last_task):
        b, hk = task // p.Hk, task % p.Hk
        length = lengths[b] if p.sized else p.Tk
        key_at, value_at = key_offset(p, rows, table, b, hk, 0), value_offset(p, rows, table, b, hk, 0)
        scores.pack_keys(p.score, p.activation, key, key_at, p.D, length, p.D, v, work, 0, p.panel)
        for r in range(group * p.Tq):
            h, i = hk * group + r % group, r // group
            row = (b * p.H + h) * p.Tq + i
            raw[0] = row * p.D
            lo, hi = row_range(p, length, i)
            out = context[row * p.Dv : (row + 1) * p.Dv]
            for c in range(p.Dv):
                out[c] = zero
            if weights.size:
                for j in range(p.Tk):
                    weights[row * p.Tk + j] = zero
            if lo >= hi:
                continue
            _row_scores(
                p, scale, softcap, query, raw, key, key_at, space, v, scratch, mask, bias, b, h, i, lo, hi, work,
                at_query, at_s, at_slope, flags, found, calls, blocks,
            )  # fmt: skip
            entmax_row(alpha[h], found, hi, weight, least)
            of_row = row_key(seeds[b], h, i) if p.dropped else np.uint64(0)
            for j in range(lo, hi):
                x = like(zero, weight[j])
                if x == zero:
                    continue
                if weights.size:
                    weights[row * p.Tk + j] = x
                if p.dropped:
                    x = zero if key_hash(of_row, j) < p.drop_below else x * keep
                at = value_at + j * p.Dv
                for c in range(p.Dv):
                    out[c] = fma(x, value[at + c], out[c])
            for c in range(p.Dv):
                if not p.dropped and not is_finite(out[c]):
                    whole = zero
                    for j in range(lo, hi):
                        x = like(zero, weight[j])
                        if x != zero:
                            whole = fma(x * like(zero, 0.5), value[value_at + j * p.Dv + c], whole)
                    out[c] = twice_bounded(whole)
                out[c] = out[c] + zero


@kernel(
    Problem,
    "x d x x1 x1 x1 x1 b4~ x4~ i1 u1 i1 i1 x1 i1 b1 d1 d x1 x1 x1! x1! x1! d4~! d1! d1! b1! x1! x1 d1! d1! i i",
)
def sparse_backward(
    p, scale, softcap, keep, query, key, value, vector, mask, bias, lengths, seeds, rows, table, packed, calls,
    blocks, alpha, least, d_context, d_weights, d_query, d_key, d_value, d_bias, d_vectors, d_alpha, finite, work,
    space, found, weight, first_task, last_task,
):  # fmt: skip
    """Tasks first_task..last_task-1, each one (batch, key head); outputs of them are added to, and zero on entry."""
    group = p.H // p.Hk
    features = (p.D + 3) // 4 * 4
    keys = (p.Tk + p.panel - 1) // p.panel * p.panel
    at_s = keys * (features + 2)
    at_slope = at_s + keys
    at_query = at_slope + keys
    rest = work[at_query + 2 * features + 8 :]
    v, scratch = rest[:features], rest[features : 2 * features]
    extra, spare, dv = rest[2 * features :][: p.D], rest[3 * features :][: p.D], rest[4 * features :][: p.D]
    zero = like(scale, 0)
    for t in range(features):
        v[t] = vector[t] if t < vector.size else zero
    for t in range(p.D):
        extra[t] = zero
    d = np.zeros(p.Tk)
    many = group * p.Tq > TURN
    keys_kept, values_kept = np.zeros(p.Tk * p.D if many else 0), np.zeros(p.Tk * p.Dv if many else 0)
    flags, raw = np.zeros(1, np.int64), np.zeros(1, np.int64)
    for task in range(first_task, last_task):
        b, hk = task // p.Hk, task % p.Hk
        length = lengths[b] if p.sized else p.Tk
        key_at, value_at = key_offset(p, rows, table, b, hk, 0), value_offset(p, rows, table, b, hk, 0)
        to = (b * p.Hk + hk) * p.Tk
        scores.pack_keys(p.score, p.activation, key, key_at, p.D, length, p.D, v, work, 0, p.panel)
        for r in range(group * p.Tq):
            h, i = hk * group + r % group, r // group
            row = (b * p.H + h) * p.Tq + i
            raw[0] = row * p.D
            lo, hi = row_range(p, length, i)
            if lo >= hi:
                continue
            _row_scores(
                p, scale, softcap, query, raw, key, key_at, space, v, scratch, mask, bias, b, h, i, lo, hi, work,
                at_query, at_s, at_slope, flags, found, calls, blocks,
            )  # fmt: skip
            entmax_row(alpha[h], found, hi, weight, least)
            of_row = row_key(seeds[b], h, i) if p.dropped else np.uint64(0)
            out = d_context[row * p.Dv : (row + 1) * p.Dv]
            for j in range(hi):
                weight[j] = np.float64(like(zero, weight[j]))
                d[j] = 0
                if weight[j] == 0:
                    continue
                kept = keep
                if p.dropped and key_hash(of_row, j) < p.drop_below:
                    kept = zero
                total, at = 0.0, value_at + j * p.Dv
                for c in range(p.Dv):
                    total += np.float64(out[c]) * np.float64(value[at + c])
                d[j] = np.float64(kept) * total if kept != zero else 0.0
                if d_weights.size:
                    d[j] += np.float64(d_weights[row * p.Tk + j])
                x = like(zero, weight[j]) * kept
                if x != zero:
                    for c in range(p.Dv):
                        at = (to + j) * p.Dv + c
                        d_value[at] = fma(x, out[c], d_value[at])
            change = entmax_back(alpha[h], weight, d, hi)
            if d_alpha.size:
                d_alpha[row] = change
            q, dq = query[raw[0] : raw[0] + p.D], d_query[raw[0] : raw[0] + p.D]
            for t in range(p.D):
                dv[t] = zero
            for j in range(hi):
                if weight[j] == 0:
                    continue
                if d_bias.size:
                    d_bias[b, h, i, j] += d[j]
                g = d[j] * np.float64(scale)
                if softcap > 0:
                    g *= np.float64(work[at_slope + j])
                g_real = like(zero, g)
                if g_real == zero:
                    continue
                at = (to + j) * p.D
                pair_backward(
                    p.score, p.activation, g_real, q, key[key_at + j * p.D : key_at + (j + 1) * p.D], v, extra, spare,
                    dq, d_key[at : at + p.D], dv,
                )  # fmt: skip
            for t in range(p.D):
                d_vectors[task * p.D + t] += np.float64(dv[t])
            if many and (r + 1) % TURN == 0:
                keep_sums(d_key, to * p.D, keys_kept)
                keep_sums(d_value, to * p.Dv, values_kept)
        if many:
            settle_sums(d_key, to * p.D, keys_kept)
            settle_sums(d_value, to * p.Dv, values_kept)
        good = zero
        for t in range(group * p.Tq * p.D):
            good = good + d_query[(b * p.H + hk * group) * p.Tq * p.D + t] * zero
        for t in range(p.Tk * p.D):
            good = good + d_key[to * p.D + t] * zero
        for t in range(p.Tk * p.Dv):
            good = good + d_value[to * p.Dv + t] * zero
        finite[task] = 1 if good == zero else 0
