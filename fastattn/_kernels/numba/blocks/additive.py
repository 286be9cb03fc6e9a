"""Additive scores: tiles and gradients of v . act(q + k) by factored exponentials, as in csrc/attention/scores.

With E = e^(a q) e^(a k), tanh(x) = (E - 1) / (E + 1) for a = 2 and sigmoid(x) = 1 / (1 + E) for a = -1: exponentials of
rows and keys, and for a pair multiply-adds and a quarter of a division, which four features share. What lies out of the
range of exponentials is flagged and computed pair by pair. Rows are [E, v E, correction]; panels have a row of
corrections and one of flags behind their features.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from fastattn._kernels.numba.blocks.compiled import inlined
from fastattn._kernels.numba.blocks.elements import choose, exp_parts, fma, fma_once, like, sigmoid, tanh
from fastattn._kernels.numba.blocks.lanes import Lanes, address, lanes_of, written

__all__ = ["back_block", "direct", "pack_panel_exponentials", "pack_query", "pack_row", "score_tile"]

TANH, SIGMOID, RELU = 0, 1, 2
DIRECT, LARGE = 2, 1
_CAPS = {4: 2.0**30, 8: 2.0**250}


def _tile(rows: int, activation: int, capped: bool) -> Any:
    """Make the scores of `rows` packed rows against n keys of a panel, without corrections and scale."""

    def typed(context: Any, q: Any, q0: Any, q_row: Any, k: Any, k0: Any, width: Any, v: Any, features: Any, n: Any,
              s: Any, s0: Any, s_row: Any) -> Any:  # fmt: skip
        given = (q, q0, q_row, k, k0, width, v, features, n, s, s0, s_row)
        kinds = [kind if isinstance(kind, types.Array) else types.int64 for kind in given]

        def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
            lanes, word = lanes_of(signature, builder), ir.IntType(64)
            at_q, at_k, at_v, at_s = (address(context, builder, kinds[i], values[i]) for i in (0, 3, 6, 9))
            _, q0, q_row, _, k0, width, _, features, n, _, s0, s_row = values
            one, cap = lanes.of(1), lanes.of(_CAPS[lanes.item])

            def plus(a: Any, number: int) -> Any:
                return builder.add(a, ir.Constant(word, number))

            with lanes.steps(n, lanes.count) as (j, _):
                sums = [lanes.variable(lanes.of(0)) for _ in range(rows)]
                for total in sums:
                    builder.store(lanes.of(0), total)
                with lanes.steps(features, 4) as (t, _):
                    keys = [
                        lanes.load(at_k, builder.add(builder.add(k0, j), builder.mul(plus(t, c), width)))
                        for c in range(4)
                    ]
                    vector = [lanes.load_one(at_v, plus(t, c)) for c in range(4)]
                    for r in range(rows):
                        row = builder.add(builder.add(q0, builder.mul(q_row, ir.Constant(word, r))), t)
                        total = builder.load(sums[r])
                        if activation == RELU:
                            for c in range(4):
                                x = lanes.add(lanes.load_one(at_q, plus(row, c)), keys[c])
                                total = lanes.fma(vector[c], lanes.max(lanes.of(0), x), total)
                            builder.store(total, sums[r])
                            continue
                        top, low = [], []
                        for c in range(4):
                            d = lanes.fma(lanes.load_one(at_q, plus(row, c)), keys[c], one)
                            m = vector[c]
                            if activation == TANH:
                                e = lanes.load_one(at_q, plus(builder.add(row, features), c))
                                m = lanes.fma_once(e, keys[c], builder.fneg(vector[c]))
                            if capped:
                                if activation == TANH:
                                    m = lanes.where_less(d, cap, m, lanes.mul(vector[c], cap))
                                d = lanes.min(cap, d)
                            top.append(m)
                            low.append(d)
                        first = lanes.fma(top[0], low[1], lanes.mul(top[1], low[0]))
                        second = lanes.fma(top[2], low[3], lanes.mul(top[3], low[2]))
                        low01, low23 = lanes.mul(low[0], low[1]), lanes.mul(low[2], low[3])
                        whole = lanes.fma(first, low23, lanes.mul(second, low01))
                        builder.store(lanes.add(total, lanes.div(whole, lanes.mul(low01, low23))), sums[r])
                for r in range(rows):
                    place = builder.add(builder.add(s0, j), builder.mul(s_row, ir.Constant(word, r)))
                    lanes.store(builder.load(sums[r]), at_s, place)
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return written(typed)


_tanh_2, _tanh_1 = _tile(2, TANH, False), _tile(1, TANH, False)
_capped_2, _capped_1 = _tile(2, TANH, True), _tile(1, TANH, True)
_sigmoid_2, _sigmoid_1 = _tile(2, SIGMOID, True), _tile(1, SIGMOID, True)
_relu_2, _relu_1 = _tile(2, RELU, False), _tile(1, RELU, False)


@inlined
def score_tile(activation, rows, any_flag, q, q0, q_row, panels, k0, width, v, features, n, scale, s, s0, s_row):
    """Scores of rows against the n keys of one panel, of unflagged rows and keys."""
    r = 0
    while r < rows:
        qr, sr = q0 + r * q_row, s0 + r * s_row
        two = r + 2 <= rows
        if activation == 2:
            if two:
                _relu_2(q, qr, q_row, panels, k0, width, v, features, n, s, sr, s_row)
            else:
                _relu_1(q, qr, q_row, panels, k0, width, v, features, n, s, sr, s_row)
        elif activation == 1:
            if two:
                _sigmoid_2(q, qr, q_row, panels, k0, width, v, features, n, s, sr, s_row)
            else:
                _sigmoid_1(q, qr, q_row, panels, k0, width, v, features, n, s, sr, s_row)
        elif any_flag:
            if two:
                _capped_2(q, qr, q_row, panels, k0, width, v, features, n, s, sr, s_row)
            else:
                _capped_1(q, qr, q_row, panels, k0, width, v, features, n, s, sr, s_row)
        elif two:
            _tanh_2(q, qr, q_row, panels, k0, width, v, features, n, s, sr, s_row)
        else:
            _tanh_1(q, qr, q_row, panels, k0, width, v, features, n, s, sr, s_row)
        r += 2
    corrections = panels[k0 + features * width : k0 + (features + 1) * width]
    for r in range(rows):
        row = s[s0 + r * s_row : s0 + r * s_row + n]
        correction = q[q0 + r * q_row + 2 * features]
        if activation == 0:
            for j in range(n):
                row[j] = ((row[j] + correction) + corrections[j]) * scale
        else:
            for j in range(n):
                row[j] = row[j] * scale


@inlined
def pack_row(activation, x, at, width, v, out, to, padded, lost, lost_at):
    """out = e^(a x), or x for relu, and zeros up to `padded`; lost: half the relative rounding errors (tanh). Returns
    the flag; a row that is flagged DIRECT is of ones."""
    one, zero = like(out[0], 1), like(out[0], 0)
    row = x[at : at + width]
    e = out[to : to + padded]
    left = lost[lost_at : lost_at + padded]
    for t in range(width, padded):
        e[t] = zero
    for t in range(padded):
        left[t] = zero
    if activation == 2:
        for t in range(width):
            e[t] = row[t]
        return 0
    factor = like(one, 2) if activation == 0 else like(one, -1)
    limit, small = choose(one, 86.0, 600.0), choose(one, 10.39, 86.6)
    worst = zero
    for t in range(width):
        s = row[t] * factor
        size = abs(s)
        level = like(one, 2) if not size <= limit else (one if size > small else zero)
        worst = max(worst, level)
        q, power = exp_parts(s)
        m = one + q
        e[t] = m * power
        left[t] = (q - (m - one)) * fma(like(one, -0.5), m, one)
    if worst == like(one, 2):
        for t in range(width):
            e[t] = one
            left[t] = zero
        return 2
    if activation != 0:
        for t in range(width):
            left[t] = zero
    return 1 if worst == one else 0


@inlined
def pack_query(activation, x, at, width, v, out, to, features, lost, lost_at):
    """A row of E, v E and the correction, 2 features + 1 numbers; returns the flag."""
    one, zero = like(out[0], 1), like(out[0], 0)
    flag = pack_row(activation, x, at, width, v, out, to, features, lost, lost_at)
    correction, rounding, beyond = zero, zero, False
    huge = choose(one, 1e37, 1e290)
    for t in range(features):
        e, w = out[to + t], v[t]
        p = w * e
        out[to + features + t] = p
        correction = fma(w, lost[lost_at + t], correction)
        if e > zero:
            rounding += fma_once(w, e, -p) / e
        if not abs(p) < huge:
            beyond = True
    out[to + 2 * features] = zero
    if activation == 0:
        if beyond:
            flag = 2
        if flag == 2:
            for t in range(features):
                out[to + t] = one
                out[to + features + t] = zero
        else:
            out[to + 2 * features] = correction + rounding * like(one, 0.5)
    return flag


@inlined
def pack_panel_exponentials(activation, n, features, width, depth, v, panel, to):
    """A packed panel's keys become exponentials; corrections and flags follow, zeros beyond `depth` features."""
    zero, one = like(panel[0], 0), like(panel[0], 1)
    for c in range(depth * width, (features + 2) * width):
        panel[to + c] = zero
    if activation == 2:
        return
    factor = like(one, 2) if activation == 0 else like(one, -1)
    limit, small = choose(one, 86.0, 600.0), choose(one, 10.39, 86.6)
    corrections = panel[to + features * width : to + (features + 1) * width]
    flags = panel[to + (features + 1) * width : to + (features + 2) * width]
    for t in range(depth):
        row = panel[to + t * width : to + (t + 1) * width]
        of_vector = v[t] if activation == 0 else zero
        for j in range(width):
            s = row[j] * factor
            size = abs(s)
            level = like(one, 2) if not size <= limit else (one if size > small else zero)
            flags[j] = max(flags[j], level)
            q, power = exp_parts(s)
            m = one + q
            row[j] = m * power
            corrections[j] = fma(of_vector, (q - (m - one)) * fma(like(one, -0.5), m, one), corrections[j])
    for j in range(n):
        if flags[j] == like(one, 2):
            corrections[j] = zero
            for t in range(depth):
                panel[to + t * width + j] = one
    for j in range(n, width):  # without a key 0, not e^0
        flags[j] = corrections[j] = zero
        for t in range(depth):
            panel[to + t * width + j] = zero


@inlined
def activate(activation, x):
    """The activation of one sum."""
    if activation == 0:
        return tanh(x)
    if activation == 1:
        return sigmoid(x)
    zero = like(x, 0)
    return x if not x <= zero else zero


@inlined
def slope(activation, x, y):
    """The derivative at x, whose activation is y."""
    one = like(x, 1)
    if activation == 0:
        return fma(-y, y, one)
    if activation == 1:
        return fma(-y, y, y)
    return one if x > like(x, 0) else x * like(x, 0)


@inlined
def direct(activation, q, q_at, k, k_at, width, v):
    """One score by the activation itself."""
    total = like(v[0], 0)
    for t in range(width):
        total = fma(v[t], activate(activation, q[q_at + t] + k[k_at + t]), total)
    return total


def _back(activation: int, capped: bool) -> Any:
    """Make the gradients of a block of packed rows and keys, without the factors v and 4 (tanh)."""

    def typed(context: Any, rows: Any, keys: Any, g: Any, g0: Any, g_row: Any, q: Any, q0: Any, k: Any, k0: Any,
              size: Any, dq: Any, dq0: Any, dk: Any, dk0: Any, dv: Any) -> Any:  # fmt: skip
        given = (rows, keys, g, g0, g_row, q, q0, k, k0, size, dq, dq0, dk, dk0, dv)
        kinds = [kind if isinstance(kind, types.Array) else types.int64 for kind in given]

        def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
            lanes, word = lanes_of(signature, builder), ir.IntType(64)
            single = Lanes(builder, types.float32 if lanes.item == 4 else types.float64, 1)
            places = (2, 5, 7, 10, 12, 14)
            at_g, at_q, at_k, at_dq, at_dk, at_dv = (address(context, builder, kinds[i], values[i]) for i in places)
            rows, keys, _, g0, g_row, _, q0, _, k0, size, _, dq0, _, dk0, _ = values
            one, cap, four = lanes.of(1), lanes.of(_CAPS[lanes.item]), range(4)

            def part(base: Any, c: int) -> Any:
                return builder.add(base, ir.Constant(word, c * lanes.count))

            with lanes.steps(size, 4 * lanes.count) as (t, _):
                v_sums = [lanes.variable(lanes.of(0)) for _ in four]
                for c in four:
                    builder.store(lanes.load(at_dv, part(t, c)), v_sums[c])
                with lanes.steps(rows, 1) as (i, _):
                    of_row = builder.add(builder.mul(i, size), t)
                    of_g = builder.add(g0, builder.mul(i, g_row))
                    e = [lanes.load(at_q, part(builder.add(q0, of_row), c)) for c in four]
                    sums = [lanes.variable(lanes.of(0)) for _ in four]
                    v_row = [lanes.variable(lanes.of(0)) for _ in four]
                    for c in four:
                        builder.store(lanes.of(0), sums[c])
                        builder.store(lanes.of(0), v_row[c])
                    with lanes.steps(keys, 1) as (j, _):
                        number = single.load(at_g, builder.add(of_g, j))
                        with builder.if_then(builder.fcmp_unordered("!=", number, single.of(0))):
                            of_key = builder.add(builder.mul(j, size), t)
                            k = [lanes.load(at_k, part(builder.add(k0, of_key), c)) for c in four]
                            gv, w, y = lanes.spread(number), [], []
                            if activation == RELU:
                                for c in four:
                                    x = lanes.add(e[c], k[c])
                                    w.append(lanes.where_less(lanes.of(0), x, one, lanes.mul(x, lanes.of(0))))
                                    y.append(lanes.max(lanes.of(0), x))
                            else:
                                a = [lanes.fma(e[c], k[c], one) for c in four]
                                if capped:
                                    a = [lanes.min(cap, x) for x in a]
                                first, second = lanes.mul(a[0], a[1]), lanes.mul(a[2], a[3])
                                inverse = lanes.div(one, lanes.mul(first, second))
                                i01, i23 = lanes.mul(inverse, second), lanes.mul(inverse, first)
                                r = [
                                    lanes.mul(i01, a[1]), lanes.mul(i01, a[0]), lanes.mul(i23, a[3]),
                                    lanes.mul(i23, a[2]),
                                ]  # fmt: skip
                                for c in four:
                                    w.append(lanes.fma(builder.fneg(r[c]), r[c], r[c]))
                                    if activation == TANH:  # as (E - 1) r: 1 - 2 r loses small values
                                        x = lanes.fma_once(e[c], k[c], lanes.of(-1))
                                        if capped:
                                            x = lanes.min(cap, x)
                                        y.append(lanes.mul(x, r[c]))
                                    else:
                                        y.append(r[c])
                            for c in four:
                                builder.store(lanes.fma(gv, y[c], builder.load(v_row[c])), v_row[c])
                                builder.store(lanes.fma(gv, w[c], builder.load(sums[c])), sums[c])
                                at = part(builder.add(dk0, of_key), c)
                                lanes.store(lanes.fma(gv, w[c], lanes.load(at_dk, at)), at_dk, at)
                    for c in four:
                        at = part(builder.add(dq0, of_row), c)
                        lanes.store(lanes.add(lanes.load(at_dq, at), builder.load(sums[c])), at_dq, at)
                        builder.store(lanes.add(builder.load(v_sums[c]), builder.load(v_row[c])), v_sums[c])
                for c in four:
                    lanes.store(builder.load(v_sums[c]), at_dv, part(t, c))
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return written(typed)


_back_tanh, _back_capped = _back(TANH, False), _back(TANH, True)
_back_sigmoid, _back_relu = _back(SIGMOID, True), _back(RELU, False)


@inlined
def back_block(activation, capped, rows, keys, g, g0, g_row, q, q0, k, k0, size, dq, dq0, dk, dk0, dv):
    """dq += g act', dk += g act' and dv += g act of unflagged pairs with g != 0; rows are `size` numbers."""
    if activation == 2:
        _back_relu(rows, keys, g, g0, g_row, q, q0, k, k0, size, dq, dq0, dk, dk0, dv)
    elif activation == 1:
        _back_sigmoid(rows, keys, g, g0, g_row, q, q0, k, k0, size, dq, dq0, dk, dk0, dv)
    elif capped:
        _back_capped(rows, keys, g, g0, g_row, q, q0, k, k0, size, dq, dq0, dk, dk0, dv)
    else:
        _back_tanh(rows, keys, g, g0, g_row, q, q0, k, k0, size, dq, dq0, dk, dk0, dv)
