"""Fused attention, backward, by recomputation: scores again, weights from each row's maximum and sum.

  P_ij  = e^(s_ij - m_i) / l_i                        dP_ij = keep_ij (d_context_i . v_j) + d_weights_ij
  dS_ij = P_ij (dP_ij - delta_i)                      delta_i = sum_j P_ij dP_ij - d_lse_i
  d_value_j = sum_i keep_ij P_ij d_context_i          d_bias = dS
  g_ij = dS_ij softcap'_ij scale                      d_query, d_key, d_v: g through the score function

A task is one (batch, key head); its rows pass in blocks of 24 against all their keys. Sums over rows are chains of a
block, which are added in order, and those of 192 rows in float64; sums over keys are one chain of each row. A task
whose gradients come out non-finite is computed again without the pairs that may not be read; if they stay so, the
caller repeats the call with less of everything.
"""

import numpy as np

from fastattn._kernels.numba.blocks import scores
from fastattn._kernels.numba.blocks.calls import MODIFY, MODIFY_SLOPED, modify_row_backward
from fastattn._kernels.numba.blocks.compiled import inlined, kernel
from fastattn._kernels.numba.blocks.elements import exp_soft, fma, like
from fastattn._kernels.numba.blocks.rows import Problem, drop_row, key_offset, row_options, row_range, value_offset
from fastattn._kernels.numba.blocks.tile import (
    dot_row,
    finite_row,
    keep_sums,
    multiply,
    multiply_panels,
    pack_panel,
    padded,
    scale_row,
    settle_sums,
    tile_columns,
    tile_rows,
)

__all__ = ["attention_backward", "backward_space"]

BLOCK = 48
TURN = 4 * BLOCK  # rows whose sums are kept in float64


def _up(n: int, to: int) -> int:
    return -(-n // to) * to


def backward_space(p: Problem, softcap: float) -> int:
    """Elements that one worker of a backward pass needs."""
    features = -(-p.D // 4) * 4
    ldd, ldv, keys = _up(p.D, 4 * p.lanes), _up(p.Dv, p.lanes), _up(p.Tk, p.panel)
    of_keys = keys * (features + 2 + p.Dv) + p.Tk * (3 * ldd + ldv)
    of_rows = BLOCK * (3 * keys + 2 * features + 4 + 3 * ldd + ldv + 4 * p.lanes) + keys
    return of_keys + of_rows + 3 * ldd + 2 * ldv + features


@inlined
def _live_product(rows, width, a, a0, a_row, a_step, live, l0, l_row, l_step, b, b0, b_row, c, c0, c_row, depth):
    """C += A B over live pairs, each element's chain by itself."""
    for r in range(rows):
        for t in range(width):
            total = like(a[0], 0)
            for k in range(depth):
                if live[l0 + r * l_row + k * l_step]:
                    total = fma(a[a0 + r * a_row + k * a_step], b[b0 + k * b_row + t], total)
            c[c0 + r * c_row + t] = c[c0 + r * c_row + t] + total


@kernel(
    Problem,
    "x d x x1 x1 x1 x1 b4~ x4~ i1 u1 i1 i1 x1 i1 b1 x1 x1 x1 x1 x1 x1 x1 x1! x1! x1! d4~! d1! i1 b1! x1! x1 i i",
)
def attention_backward(
    p, scale, softcap, keep, query, key, value, vector, mask, bias, lengths, seeds, rows, table, packed, calls,
    blocks, context, weights, row_max, row_sum, d_context, d_weights, d_lse, d_query, d_key, d_value, d_bias, d_vectors,
    parameters, finite, work, space, first_task, last_task,
):  # fmt: skip
    """Tasks first_task..last_task-1, each one (batch, key head); space is work, to be read. parameters: where each task
    adds up gradients of functions' parameters, and behind all of them nowhere."""
    group = p.H // p.Hk
    lanes, width, columns = p.lanes, p.panel, tile_columns(p.lanes)
    features = (p.D + 3) // 4 * 4
    size = scores.panel_rows(p.score, p.D) * width
    product = p.score == 0
    ldd = (p.D + 4 * lanes - 1) // (4 * lanes) * (4 * lanes)
    ldv = (p.Dv + lanes - 1) // lanes * lanes
    lds = (p.Tk + width - 1) // width * width
    q_row = ldd if product else scores.query_width(p.score, p.D)
    at_panels = 0
    at_values = at_panels + lds * (features + 2)
    at_keys = at_values + lds * p.Dv
    at_key_lost = at_keys + p.Tk * ldd
    at_dk = at_key_lost + p.Tk * ldd
    at_dv = at_dk + p.Tk * ldd
    at_s = at_dv + p.Tk * ldv
    at_dp = at_s + BLOCK * lds
    at_slope = at_dp + BLOCK * lds
    at_before = at_slope + BLOCK * lds
    at_queries = at_before + lds
    at_rows = at_queries + BLOCK * (2 * features + 4)
    at_query_lost = at_rows + BLOCK * ldd
    at_dq = at_query_lost + BLOCK * ldd
    at_out = at_dq + BLOCK * ldd
    at_spare = at_out + BLOCK * ldv
    at_v = at_spare + BLOCK * 4 * lanes
    at_sums = at_v + ldd
    at_context = at_sums + ldd
    at_scratch = at_context + 2 * ldv
    if product:
        at_queries = at_rows
    zero, one = like(scale, 0), like(scale, 1)
    lowest = like(scale, -np.inf)
    v = work[at_v : at_v + ldd]
    scratch = work[at_scratch : at_scratch + features]
    spare = work[at_spare : at_spare + BLOCK * 4 * lanes]
    sums = work[at_sums : at_sums + ldd]
    for t in range(ldd):
        v[t] = vector[t] if t < vector.size else zero
    q_flags, raw = np.zeros(BLOCK, np.int64), np.zeros(BLOCK, np.int64)
    heads, queries = np.zeros(BLOCK, np.int64), np.zeros(BLOCK, np.int64)
    los, his = np.zeros(BLOCK, np.int64), np.zeros(BLOCK, np.int64)
    k_flags = np.zeros(p.Tk, np.int64)
    live = np.zeros(BLOCK * lds, np.uint8)
    of_query, of_key = np.empty(p.D, work.dtype), np.empty(p.D, work.dtype)
    for t in range(p.D):
        of_key[t] = _factor(p, v, t, one)
        of_query[t] = scale if product else of_key[t]
    biased = d_bias.size > 0
    modified = calls.size > 0 and calls[MODIFY] != 0
    sloped = modified and calls[MODIFY_SLOPED] != 0
    counted = parameters.size // (p.B * p.Hk + 1)  # pointers of a task
    nowhere = p.B * p.Hk * counted
    many = group * p.Tq > TURN
    kept = np.zeros(p.Tk * (ldd + ldv) if many else 0)
    for task in range(first_task, last_task):
        b, hk = task // p.Hk, task % p.Hk
        length = lengths[b] if p.sized else p.Tk
        total_rows = group * p.Tq
        key_at, stride = key_offset(p, rows, table, b, hk, 0), p.D
        value_at = value_offset(p, rows, table, b, hk, 0)
        scores.pack_keys(p.score, p.activation, key, key_at, stride, length, p.D, v, work, at_panels, width)
        for j in range(0, length, columns):
            m = min(columns, length - j)
            pack_panel(value, value_at + j * p.Dv, p.Dv, m, p.Dv, work, at_values + j * p.Dv, columns)
        for j in range(length):
            k_flags[j] = scores.pack_row(
                p.score, p.activation, key, key_at + j * stride, p.D, v, work, at_keys + j * ldd, ldd, work,
                at_key_lost + j * ldd,
            )  # fmt: skip
        for leave_out in range(2):
            good = zero
            of_keys = work[at_dk : at_dk + p.Tk * (ldd + ldv)]
            for c in range(of_keys.size):
                of_keys[c] = zero
            for t in range(p.D):
                d_vectors[task * p.D + t] = 0
            sums_at = nowhere if leave_out else task * counted
            for r0 in range(0, total_rows, BLOCK):
                count = min(BLOCK, total_rows - r0)
                begin, end = length, 0
                for r in range(count):
                    heads[r] = hk * group + (r0 + r) % group
                    queries[r] = (r0 + r) // group
                    los[r], his[r] = row_range(p, length, queries[r])
                    if los[r] < his[r]:
                        begin, end = min(begin, los[r]), max(end, his[r])
                    raw[r] = ((b * p.H + heads[r]) * p.Tq + queries[r]) * p.D
                begin = begin // width * width if begin < end else end
                n = end - begin
                of_rows = work[at_dq : at_dq + BLOCK * ldd]
                for c in range(of_rows.size):
                    of_rows[c] = zero
                for r in range(count):
                    row = (b * p.H + heads[r]) * p.Tq + queries[r]
                    padded(d_context, row * p.Dv, p.Dv, work, at_out + r * ldv, ldv)
                    if not product:
                        scores.pack_query(
                            p.score, p.activation, query, raw[r], p.D, scale, v, work, at_queries + r * q_row, scratch
                        )
                    q_flags[r] = scores.pack_row(
                        p.score, p.activation, query, raw[r], p.D, v, work, at_rows + r * ldd, ldd, work,
                        at_query_lost + r * ldd,
                    )  # fmt: skip
                    if product:
                        scale_row(work, at_rows + r * ldd, ldd, scale)
                up = (n + lanes - 1) // lanes * lanes
                r = 0
                while r < count and n > 0:
                    tile = tile_rows(count - r)
                    scores.score_tile(
                        p.score, p.activation, tile, work, at_queries + r * q_row, q_row, q_flags, r, query, raw,
                        space, at_panels + begin // width * size, width, key, key_at + begin * stride, stride, n, p.D,
                        v, one if product else scale, work, at_s + r * lds, lds, lanes, calls,
                    )  # fmt: skip
                    r += tile
                multiply_panels(
                    count, up, work, at_out, ldv, 1, space, at_values + begin * p.Dv, columns * p.Dv, work, at_dp, lds,
                    p.Dv, 0, lanes,
                )  # fmt: skip
                for r in range(count):
                    h, i = heads[r], queries[r]
                    row = (b * p.H + h) * p.Tq + i
                    total, top = row_sum[row], row_max[row]
                    if n == 0:
                        continue
                    s, dp = work[at_s + r * lds : at_s + r * lds + up], work[at_dp + r * lds : at_dp + r * lds + up]
                    row_options(
                        p, softcap, mask, bias, calls, blocks, b, h, i, los[r], his[r], begin, end, work,
                        at_s + r * lds, work, at_slope + r * lds, softcap > 0 or sloped, work, at_before, modified,
                    )  # fmt: skip
                    delta = zero
                    if total != zero:
                        padded(context, row * p.Dv, p.Dv, work, at_context, ldv)
                        delta = dot_row(work, at_out + r * ldv, ldv, work, at_context)
                        if d_weights.size:
                            for j in range(p.Tk):
                                if weights[row * p.Tk + j] != zero:
                                    delta = fma(weights[row * p.Tk + j], d_weights[row * p.Tk + j], delta)
                        if d_lse.size:
                            delta = delta - d_lse[row]
                    if leave_out:
                        of_row = live[r * lds : r * lds + up]
                        for j in range(up):
                            of_row[j] = s[j] != lowest
                    if p.dropped:
                        drop_row(p, keep, seeds, b, h, i, begin, end, work, at_dp + r * lds)
                    if d_weights.size:
                        for j in range(n):
                            dp[j] = dp[j] + d_weights[row * p.Tk + begin + j]
                    base = zero if top == lowest else top
                    inverse = zero if total == zero else one / total
                    for j in range(up):
                        weight = exp_soft(s[j] - base) * inverse
                        gradient = weight * (dp[j] - delta)
                        dp[j] = zero if s[j] == lowest else gradient
                        s[j] = weight
                    if biased and leave_out == 0:
                        for j in range(n):
                            d_bias[b, h, i, begin + j] += np.float64(dp[j])
                    if modified and not sloped:
                        modify_row_backward(
                            calls, work, at_before, work, at_dp + r * lds, n, b, h, i, begin, parameters, sums_at
                        )
                    if softcap > 0 or sloped:
                        slope = work[at_slope + r * lds : at_slope + r * lds + up]
                        for j in range(up):
                            dp[j] = zero if dp[j] == zero else dp[j] * slope[j]
                    if not product:
                        for j in range(up):
                            dp[j] = dp[j] * scale
                    if p.dropped:
                        drop_row(p, keep, seeds, b, h, i, begin, end, work, at_s + r * lds)
                if leave_out:
                    _live_product(
                        n, ldv, work, at_s, 1, lds, live, 0, 1, lds, work, at_out, ldv, work, at_dv + begin * ldv, ldv,
                        count,
                    )  # fmt: skip
                else:
                    multiply(
                        n, ldv, work, at_s, 1, lds, work, at_out, ldv, work, at_dv + begin * ldv, ldv, count, 2, lanes
                    )
                if not product:
                    for t in range(ldd):
                        sums[t] = zero
                    for j in range(begin, end, 4 * lanes):
                        m = min(4 * lanes, end - j)
                        scores.back_pairs(
                            p.score, p.activation, count, m, work, at_dp + j - begin, lds, work, at_rows, work,
                            at_keys + j * ldd, ldd, p.D, q_flags, 0, k_flags, j, work, at_query_lost, work,
                            at_key_lost + j * ldd, query, raw, key, key_at + j * stride, stride, work, at_dq, work,
                            at_dk + j * ldd, sums, spare, calls, parameters, sums_at,
                        )  # fmt: skip
                    for t in range(p.D):
                        d_vectors[task * p.D + t] += np.float64(sums[t])
                elif leave_out:
                    _live_product(
                        n, ldd, work, at_dp, 1, lds, live, 0, 1, lds, work, at_rows, ldd, work, at_dk + begin * ldd,
                        ldd, count,
                    )  # fmt: skip
                    _live_product(
                        count, ldd, work, at_dp, lds, 1, live, 0, lds, 1, work, at_keys + begin * ldd, ldd, work,
                        at_dq, ldd, n,
                    )  # fmt: skip
                else:
                    multiply(
                        n, ldd, work, at_dp, 1, lds, work, at_rows, ldd, work, at_dk + begin * ldd, ldd, count, 2,
                        lanes,
                    )  # fmt: skip
                    multiply(
                        count, ldd, work, at_dp, lds, 1, work, at_keys + begin * ldd, ldd, work, at_dq, ldd, n, 2, lanes
                    )
                for r in range(count):
                    good = good + finite_row(work, at_dq + r * ldd, ldd, zero)
                    _times(work, at_dq + r * ldd, of_query, d_query, raw[r], p.D)
                if many and (r0 + BLOCK) % TURN == 0:
                    keep_sums(work, at_dk, kept)
            if many:
                settle_sums(work, at_dk, kept)
            good = good + finite_row(work, at_dk, length * ldd, zero) + finite_row(work, at_dv, length * ldv, zero)
            if good == zero or leave_out == 1:
                finite[task] = 1 if good == zero else 0
                break
        to = (b * p.Hk + hk) * p.Tk
        for j in range(p.Tk):
            _times(work, at_dk + j * ldd, of_key, d_key, (to + j) * p.D, p.D)
            padded(work, at_dv + j * ldv, p.Dv, d_value, (to + j) * p.Dv, p.Dv)


@inlined
def _times(source, at, factors, out, to, n):
    """out = n numbers times factors."""
    row, scaled = source[at : at + n], out[to : to + n]
    for t in range(n):
        scaled[t] = row[t] * factors[t]


@inlined
def _factor(p, v, t, one):
    """What gradients of pairs leave out: of additive scores v, and 4 for tanh."""
    if p.score != 1:
        return one
    return v[t] * like(one, 4) if p.activation == 0 else v[t]
