"""The scores that kernels compute, each as attention calls it: packed rows and panels, tiles, gradients of blocks.

A row of a packed query is the query itself times scale (dot), the query (l1), or exponentials (additive.py). A panel
holds `width` keys, feature by feature.
"""

from fastattn._kernels.numba.blocks import additive
from fastattn._kernels.numba.blocks.calls import pairs_backward, pairs_tile
from fastattn._kernels.numba.blocks.compiled import inlined
from fastattn._kernels.numba.blocks.elements import fma, like
from fastattn._kernels.numba.blocks.tile import multiply_panels, pack_panel

__all__ = [
    "back_pairs", "key_flag", "pack_keys", "pack_query", "pack_row", "padded_features", "panel_rows", "query_width",
    "score_tile",
]  # fmt: skip

DOT, ADDITIVE, L1, PAIRWISE = 0, 1, 2, 3


@inlined
def padded_features(score, width):
    """Features of a panel: in fours, for additive scores."""
    return (width + 3) // 4 * 4 if score == ADDITIVE else width


@inlined
def panel_rows(score, width):
    """Rows of a panel: features, and of additive scores corrections and flags."""
    return padded_features(score, width) + (2 if score == ADDITIVE else 0)


@inlined
def query_width(score, width):
    """Numbers of a packed query."""
    return 2 * padded_features(score, width) + 4 if score == ADDITIVE else width


@inlined
def pack_keys(score, activation, key, at, stride, n, depth, v, panels, to, width):
    """Panels of n keys."""
    size = panel_rows(score, depth) * width
    for j in range(0, n, width):
        m = min(width, n - j)
        pack_panel(key, at + j * stride, stride, m, depth, panels, to, width)
        if score == ADDITIVE:
            additive.pack_panel_exponentials(activation, m, padded_features(score, depth), width, depth, v, panels, to)
        to += size


@inlined
def pack_query(score, activation, x, at, depth, scale, v, out, to, scratch):
    """A packed query; returns its flag."""
    if score == ADDITIVE:
        return additive.pack_query(activation, x, at, depth, v, out, to, padded_features(score, depth), scratch, 0)
    factor = scale if score == DOT else like(scale, 1)
    row = x[at : at + depth]
    packed = out[to : to + depth]
    for t in range(depth):
        packed[t] = row[t] * factor
    return 0


@inlined
def pack_row(score, activation, x, at, depth, v, out, to, size, lost, lost_at):
    """A query or key as gradients read it, in `size` numbers; returns its flag."""
    if score == ADDITIVE:
        return additive.pack_row(activation, x, at, depth, v, out, to, size, lost, lost_at)
    row = x[at : at + depth]
    packed = out[to : to + size]
    for t in range(depth):
        packed[t] = row[t]
    for t in range(depth, size):
        packed[t] = like(out[0], 0)
    return 0


@inlined
def key_flag(score, panels, panel, depth, width, j):
    """The flag of key j of a panel."""
    if score != ADDITIVE:
        return 0
    return int(panels[panel + (padded_features(score, depth) + 1) * width + j])


@inlined
def score_tile(
    score,
    activation,
    rows,
    q,
    q0,
    q_row,
    flags,
    f0,
    raw,
    raw_at,
    panels,
    panel,
    width,
    key,
    key_at,
    stride,
    n,
    depth,
    v,
    scale,
    s,
    s0,
    s_row,
    lanes,
    calls,
):
    """Scores of `rows` packed queries against n keys, rounded up to whole vectors; panel: where their first begins."""
    size = panel_rows(score, depth) * width
    if score == DOT:
        up = (n + lanes - 1) // lanes * lanes
        multiply_panels(rows, up, q, q0, q_row, 1, panels, panel, size, s, s0, s_row, depth, 0, lanes)
        return
    for j in range(0, n, width):
        _panel_scores(
            score, activation, rows, q, q0, q_row, flags, f0, raw, raw_at, panels, panel + j // width * size, width,
            key, key_at + j * stride, stride, min(width, n - j), depth, v, scale, s, s0 + j, s_row, lanes, calls,
        )  # fmt: skip


@inlined
def _panel_scores(
    score, activation, rows, q, q0, q_row, flags, f0, raw, raw_at, panels, panel, width, key, key_at, stride, n, depth,
    v, scale, s, s0, s_row, lanes, calls,
):  # fmt: skip
    """Those that are not products, against the n keys of one panel."""
    up = (n + lanes - 1) // lanes * lanes
    if score == ADDITIVE:
        most = 0
        for j in range(n):
            most = max(most, key_flag(score, panels, panel, depth, width, j))
        for r in range(rows):
            most = max(most, flags[f0 + r])
        additive.score_tile(
            activation, rows, most > 0, q, q0, q_row, panels, panel, width, v, padded_features(score, depth), up,
            scale, s, s0, s_row,
        )  # fmt: skip
        if most < additive.DIRECT:
            return
        for r in range(rows):
            for j in range(n):
                if max(flags[f0 + r], key_flag(score, panels, panel, depth, width, j)) == additive.DIRECT:
                    s[s0 + r * s_row + j] = scale * additive.direct(
                        activation, raw, raw_at[f0 + r], key, key_at + j * stride, depth, v
                    )
        return
    if score == PAIRWISE:
        pairs_tile(calls, rows, q, q0, q_row, panels, panel, width, n, depth, s, s0, s_row)
        for r in range(rows):
            row = s[s0 + r * s_row : s0 + r * s_row + n]
            for j in range(n):
                row[j] = row[j] * scale
        return
    for r in range(rows):
        row = s[s0 + r * s_row : s0 + r * s_row + up]
        for j in range(up):
            row[j] = like(scale, 0)
        for t in range(depth):
            x = q[q0 + r * q_row + t]
            keys = panels[panel + t * width : panel + t * width + up]
            for j in range(up):
                row[j] = row[j] + abs(x - keys[j])
        for j in range(up):
            row[j] = row[j] * -scale


@inlined
def back_pairs(
    score,
    activation,
    rows,
    keys,
    g,
    g0,
    g_row,
    q,
    q0,
    k,
    k0,
    size,
    depth,
    q_flags,
    qf0,
    k_flags,
    kf0,
    q_lost,
    ql0,
    k_lost,
    kl0,
    raw,
    raw_at,
    key,
    key_at,
    stride,
    dq,
    dq0,
    dk,
    dk0,
    dv,
    spare,
    calls,
    parameters,
    parameters_at,
):
    """Gradients of a block that are not products: dq, dk, dv += those of g, without the factors of `gradient_factor`.

    spare: rows x keys numbers; parameters: addresses of sums, from parameters_at on.
    """
    zero = like(g[0], 0)
    if score == PAIRWISE:
        pairs_backward(
            calls, rows, keys, g, g0, g_row, q, q0, k, k0, size, depth, dq, dq0, dk, dk0, parameters, parameters_at
        )
        return
    if score == L1:
        for i in range(rows):
            x = q[q0 + i * size : q0 + i * size + depth]
            dx = dq[dq0 + i * size : dq0 + i * size + depth]
            for j in range(keys):
                gij = g[g0 + i * g_row + j]
                if gij == zero:
                    continue
                y = k[k0 + j * size : k0 + j * size + depth]
                dy = dk[dk0 + j * size : dk0 + j * size + depth]
                for t in range(depth):
                    apart = x[t] - y[t]
                    one = zero if apart == zero else (gij if apart > zero else -gij)
                    dx[t] -= one
                    dy[t] += one
        return
    most = 0
    for i in range(rows):
        most = max(most, q_flags[qf0 + i])
    for j in range(keys):
        most = max(most, k_flags[kf0 + j])
    for i in range(rows):
        for j in range(keys):
            far = max(q_flags[qf0 + i], k_flags[kf0 + j]) == additive.DIRECT
            spare[i * keys + j] = zero if far else g[g0 + i * g_row + j]
    if activation == 0:  # what the rounding of the exponentials moved dv by
        for i in range(rows):
            total = zero
            for j in range(keys):
                total += spare[i * keys + j]
            left = q_lost[ql0 + i * size : ql0 + (i + 1) * size]
            for t in range(size):
                dv[t] = fma(total, left[t], dv[t])
        for j in range(keys):
            total = zero
            for i in range(rows):
                total += spare[i * keys + j]
            left = k_lost[kl0 + j * size : kl0 + (j + 1) * size]
            for t in range(size):
                dv[t] = fma(total, left[t], dv[t])
    additive.back_block(activation, most > 0, rows, keys, spare, 0, keys, q, q0, k, k0, size, dq, dq0, dk, dk0, dv)
    if most < additive.DIRECT:
        return
    quarter = like(zero, 0.25) if activation == 0 else like(zero, 1)
    for i in range(rows):
        for j in range(keys):
            gij = g[g0 + i * g_row + j]
            if gij == zero or max(q_flags[qf0 + i], k_flags[kf0 + j]) < additive.DIRECT:
                continue
            for t in range(depth):
                x = raw[raw_at[qf0 + i] + t] + key[key_at + j * stride + t]
                y = additive.activate(activation, x)
                w = additive.slope(activation, x, y) * quarter
                dq[dq0 + i * size + t] = fma(gij, w, dq[dq0 + i * size + t])
                dk[dk0 + j * size + t] = fma(gij, w, dk[dk0 + j * size + t])
                dv[t] = fma(gij, y, dv[t])
