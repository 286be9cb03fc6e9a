"""Decoder steps over earlier weights or ranges of keys, and one query's gradient (csrc/decoder/steps.inl has formulas).

A step's scores are computed key by key, as they were all at once in no other call: every sum ascends.
"""

from typing import Any, NamedTuple

import numpy as np

from fastattn._kernels.numba.blocks import additive
from fastattn._kernels.numba.blocks.compiled import inlined, kernel
from fastattn._kernels.numba.blocks.elements import exp, exp_soft, fma, like, sigmoid
from fastattn._kernels.numba.blocks.rows import is_finite, twice_bounded
from fastattn._kernels.numba.checks import (
    Array,
    between,
    flat,
    floats,
    inside,
    maybe,
    same,
    tensor,
)
from fastattn._kernels.numba.records import ADDITIVE, Features, KernelScore, Keys

__all__ = ["Steps", "query_backward"]

_INT64, _BOOL = np.dtype(np.int64), np.dtype(np.bool_)


class Sizes(NamedTuple):
    """Sizes of a call; features C with filters of K elements, 0 for none."""

    B: int
    T: int
    S: int
    D: int
    Dv: int
    C: int
    K: int
    score: int
    activation: int
    key_rows: int
    value_rows: int
    masked: int
    filtered: int
    factored: int
    weighted: int  # there are gradients of weights
    sigmoid: int


@inlined
def pair(score, activation, q, k, v, extra, row):
    """The score of a query and a key, whose sum with `extra` goes to row for additive ones."""
    total = like(row[0], 0)
    if score == 0:
        for d in range(q.size):
            total = fma(q[d], k[d], total)
        return total
    if score == 2:
        for d in range(q.size):
            total = total + abs(q[d] - k[d])
        return -total
    for d in range(q.size):
        row[d] = additive.activate(activation, (q[d] + k[d]) + extra[d])
    for d in range(q.size):
        total = fma(v[d], row[d], total)
    return total


@inlined
def pair_backward(score, activation, g, q, k, v, extra, row, dq, dk, dv):
    """dq, dk, dv += g times the derivatives of a pair's score; row receives those of an additive score's sum."""
    zero = like(g, 0)
    if score == 0:
        for d in range(q.size):
            dq[d] = fma(g, k[d], dq[d])
            dk[d] = fma(g, q[d], dk[d])
        return
    if score == 2:
        for d in range(q.size):
            apart = q[d] - k[d]
            one = zero if apart == zero else (g if apart > zero else -g)
            dq[d] -= one
            dk[d] += one
        return
    for d in range(q.size):
        x = (q[d] + k[d]) + extra[d]
        y = additive.activate(activation, x)
        row[d] = (g * v[d]) * additive.slope(activation, x, y)
        dv[d] = fma(g, y, dv[d])
        dq[d] = dq[d] + row[d]
        dk[d] = dk[d] + row[d]


@inlined
def weight_gradient(d_context, values, at, n):
    """d_context . value, in float64, where no product of finite numbers of float32 is infinite."""
    total = 0.0
    for c in range(n):
        total += np.float64(d_context[c]) * np.float64(values[at + c])
    return total


@inlined
def _features(p, history, filters, features):
    """f_cj of one step for all keys."""
    left = (p.K - 1) // 2
    for c in range(p.C):
        for j in range(p.S):
            total = like(features[0], 0)
            if p.filtered:
                for k in range(max(0, left - j), min(p.K, p.S + left - j)):
                    total = fma(filters[c * p.K + k], history[j + k - left], total)
            else:
                total = history[j]
            features[c * p.S + j] = total


@inlined
def _extra(p, features, u, j, extra):
    """What features add to the sum of key j."""
    for d in range(p.D):
        extra[d] = like(extra[0], 0)
    for c in range(p.C):
        f = features[c * p.S + j]
        row = u[c * p.D : (c + 1) * p.D]
        for d in range(p.D):
            extra[d] = fma(f, row[d], extra[d])


@kernel(
    Sizes,
    "x x1 x1 x1 x1 i1 i1 i1 b1 x1 x1 x1 x1 x1! x1! x1! x1! x1!",
)
def _forward(
    p, scale, query, key, value, v, rows, firsts, lasts, mask, history, filters, u, factor, context, weights,
    normalized, total, work,
):  # fmt: skip
    zero = like(scale, 0)
    lowest = like(scale, -np.inf)
    features = work[: p.C * p.S + 1]
    score = work[p.C * p.S + 1 : (p.C + 1) * p.S + 1]
    extra, row = work[(p.C + 1) * p.S + 1 :][: p.D + 1], work[(p.C + 1) * p.S + 1 + p.D + 1 :][: p.D + 1]
    for b in range(p.B):
        entry = rows[b] if rows.size else b
        for t in range(p.T):
            at = (b * p.T + t) * p.S
            first, last = firsts[b * p.T + t], lasts[b * p.T + t]
            q = query[(b * p.T + t) * p.D : (b * p.T + t + 1) * p.D]
            if p.C:
                _features(p, history[at : at + p.S], filters, features)
            top = lowest
            for j in range(first, last):
                score[j] = lowest
                if p.masked and not mask[b * p.S + j]:
                    continue
                _extra(p, features, u, j, extra)
                begin = (entry * p.key_rows + j) * p.D
                score[j] = scale * pair(p.score, p.activation, q, key[begin : begin + p.D], v, extra, row)
                top = max(top, score[j])
            for j in range(p.S):
                weights[at + j] = zero
                normalized[at + j] = zero
            # Sigmoids that would vanish are exponentials to the last bit, and these need only their distances.
            vanishing = top < like(zero, -80)
            base = zero if top == lowest else top
            found = zero
            for j in range(first, last):
                if score[j] == lowest:
                    continue
                x = sigmoid(score[j]) if p.sigmoid and not vanishing else exp_soft(score[j] - base)
                normalized[at + j] = x
                found = found + x
            inverse = zero if found == zero else like(zero, 1) / found
            total[b * p.T + t] = found * exp(top) if p.sigmoid and vanishing else found
            out = context[(b * p.T + t) * p.Dv : (b * p.T + t + 1) * p.Dv]
            for c in range(p.Dv):
                out[c] = zero
            for j in range(first, last):
                if score[j] == lowest:
                    continue
                x = normalized[at + j] * inverse
                normalized[at + j] = x
                weight = x * factor[at + j] if p.factored else x
                weights[at + j] = weight
                begin = (entry * p.value_rows + j) * p.Dv
                for c in range(p.Dv):
                    out[c] = fma(weight, value[begin + c], out[c])
            for c in range(p.Dv):
                if not is_finite(out[c]):
                    whole = zero
                    for j in range(first, last):
                        if score[j] != lowest:
                            begin = (entry * p.value_rows + j) * p.Dv
                            whole = fma(weights[at + j] * like(zero, 0.5), value[begin + c], whole)
                    out[c] = twice_bounded(whole)


@kernel(
    Sizes,
    "x x1 x1 x1 x1 i1 i1 x1 x1 x1 x1 x1 x1 x1 x1 x1! x1! x1! x1! x1! x1! x1! i i x1! d1!",
)
def _backward(
    p, scale, query, key, value, v, firsts, lasts, history, filters, u, factor, normalized, total, d_context,
    d_weights, d_query, d_history, d_factor, d_key, d_vector, d_feature_weights, d_filters, first_step, last_step,
    work, wide,
):  # fmt: skip
    zero = like(scale, 0)
    features = work[: p.C * p.S + 1]
    d_features = work[p.C * p.S + 1 : 2 * p.C * p.S + 2]
    rest = work[2 * p.C * p.S + 2 :]
    n = p.D + 1
    extra, row, dq, dv = rest[:n], rest[n : 2 * n], rest[2 * n : 3 * n], rest[3 * n : 4 * n]
    du = rest[4 * n :]
    left = (p.K - 1) // 2
    for b in range(p.B):
        for t in range(first_step, last_step):
            step = b * p.T + t
            at = step * p.S
            first, last = firsts[step], lasts[step]
            q = query[step * p.D : (step + 1) * p.D]
            for d in range(p.D):
                dq[d] = dv[d] = zero
            for i in range(p.C * p.D):
                du[i] = zero
            if p.C:
                _features(p, history[at : at + p.S], filters, features)
                for i in range(p.C * p.S):
                    d_features[i] = zero
            if p.factored:
                for j in range(p.S):
                    d_factor[at + j] = zero
            delta = 0.0
            for j in range(first, last):
                wide[j] = 0
                x = normalized[at + j]
                if x == zero:
                    continue
                out = d_context[step * p.Dv : (step + 1) * p.Dv]
                d = weight_gradient(out, value, (b * p.value_rows + j) * p.Dv, p.Dv)
                if p.weighted:
                    d += np.float64(d_weights[at + j])
                if p.factored:
                    d_factor[at + j] = like(zero, np.float64(x) * d)
                    d *= np.float64(factor[at + j])
                wide[j] = d
                delta += np.float64(x) * d
            for j in range(first, last):
                x = normalized[at + j]
                if x == zero:
                    continue
                d = np.float64(x) * (wide[j] - delta)
                if p.sigmoid:
                    d *= 1 - np.float64(x) * np.float64(total[step])
                g = like(zero, np.float64(scale) * d)
                if g == zero:
                    continue
                _extra(p, features, u, j, extra)
                begin, to = (b * p.key_rows + j) * p.D, (b * p.S + j) * p.D
                pair_backward(
                    p.score, p.activation, g, q, key[begin : begin + p.D], v, extra, row, dq, d_key[to : to + p.D], dv
                )
                for c in range(p.C):
                    f, sums = features[c * p.S + j], du[c * p.D : (c + 1) * p.D]
                    of_feature, added = u[c * p.D : (c + 1) * p.D], zero
                    for d in range(p.D):
                        sums[d] = fma(f, row[d], sums[d])
                        added = fma(of_feature[d], row[d], added)
                    d_features[c * p.S + j] = added
            for d in range(p.D):
                d_query[step * p.D + d] = dq[d]
            if p.score == 1:
                for d in range(p.D):
                    d_vector[b * p.D + d] = d_vector[b * p.D + d] + dv[d]
            for i in range(p.C * p.D):
                d_feature_weights[b * p.C * p.D + i] = d_feature_weights[b * p.C * p.D + i] + du[i]
            if p.C and not p.filtered:
                for j in range(p.S):
                    d_history[at + j] = d_features[j]
            elif p.C:
                for j in range(p.S):
                    d_history[at + j] = zero
                for c in range(p.C):
                    for k in range(p.K):
                        sum_of_filter, weight = zero, filters[c * p.K + k]
                        for j in range(max(first, left - k), min(last, p.S + left - k)):
                            found = d_features[c * p.S + j]
                            i = j + k - left
                            d_history[at + i] = fma(weight, found, d_history[at + i])
                            sum_of_filter = fma(found, history[at + i], sum_of_filter)
                        to = (b * p.C + c) * p.K + k
                        d_filters[to] = d_filters[to] + sum_of_filter


class Steps:
    """T steps of attention for each of B samples, forward and back.

    query (B, T, D), first and last (B, T) int64, mask (B, S) bool, factor (B, T, S): contiguous, or None.
    """

    def __init__(
        self,
        query: Array,
        keys: Keys,
        score: KernelScore,
        scale: float,
        first: Array,
        last: Array,
        mask: Array | None = None,
        sigmoid: bool = False,
        features: Features | None = None,
        factor: Array | None = None,
    ) -> None:
        self._dtype = dtype = floats(query, "query")
        q = tensor(query, "query", dtype, 3, 3, False, True)
        k, v, self._entries = keys.read(dtype, 3, 3, q.B, q.D)
        self._first = flat(first, "first", _INT64, q.B * q.T)
        self._last = flat(last, "last", _INT64, q.B * q.T)
        self._mask = maybe(mask, "mask", _BOOL, q.B * k.T).view(np.uint8)
        self._factor = maybe(factor, "factor", dtype, q.B * q.T * k.T)
        score.alone()
        self._vector = score.read(dtype, q.D)
        between("activation", None, score.activation, 0, 0)
        same("table", "arrays with steps", int(keys.table is not None), 0)
        count, length = 0, 0
        empty = np.empty(0, dtype)
        self._u = self._history = self._filters = empty
        if features is not None:
            u = tensor(features.weights, "feature_weights", dtype, 2, 2, False, True)
            same("feature_weights", "columns", u.D, q.D)
            self._u = features.weights.reshape(-1)
            self._history = flat(features.history, "history", dtype, q.B * q.T * k.T)
            count, length = u.T, 1
            if features.filters is not None:
                f = tensor(features.filters, "filters", dtype, 2, 2, False, True)
                same("filters", "rows", f.T, u.T)
                self._filters, length = features.filters.reshape(-1), f.D
        self._rows = maybe(keys.rows, "rows", _INT64, q.B)
        key, value = np.ascontiguousarray(keys.key), np.ascontiguousarray(keys.value)
        self._query, self._key, self._value = query.reshape(-1), key.reshape(-1), value.reshape(-1)
        self._scale = dtype.type(scale)
        self._written: tuple[Array, Array] | None = None
        self._sizes = Sizes(
            q.B, q.T, k.T, q.D, v.D, count, length, score.kernel, score.activation, key.shape[1], value.shape[1],
            int(mask is not None), int(self._filters.size > 0), int(factor is not None), 0, int(sigmoid),
        )  # fmt: skip

    def _numbers(self) -> None:
        inside("rows", self._rows, 0, self._entries - 1)
        inside("first", self._first, 0, self._sizes.S)
        inside("last", self._last, 0, self._sizes.S)

    def _each(self, array: Any, name: str, width: int, wanted: bool, write: bool) -> Array:
        """Return an array of `width` numbers for each sample, empty for None unless it is wanted."""
        if array is None and not wanted:
            return np.empty(0, self._dtype)
        return flat(array, name, self._dtype, self._sizes.B * width, write)

    def forward(self, context: Array, weights: Array, normalized: Array, total: Array) -> None:
        """context (B, T, Dv), weights (B, T, S), normalized: before the factor, or weights itself, total (B, T)."""
        p, dtype = self._sizes, self._dtype
        self._numbers()
        outputs = (
            self._each(context, "context", p.T * p.Dv, True, True),
            self._each(weights, "weights", p.T * p.S, True, True),
            self._each(normalized, "normalized", p.T * p.S, True, True),
            self._each(total, "total", p.T, True, True),
        )
        self._written = outputs[2], outputs[3]
        work = np.empty((p.C + 1) * p.S + 2 * p.D + 4, dtype)
        _forward[dtype](
            p, self._scale, self._query, self._key, self._value, self._vector, self._rows, self._first, self._last,
            self._mask, self._history, self._filters, self._u, self._factor, *outputs, work,
        )  # fmt: skip

    def backward(
        self,
        d_context: Array,
        d_weights: Array | None,
        d_query: Array,
        d_history: Array | None,
        d_factor: Array | None,
        d_key: Array,
        d_vector: Array | None,
        d_feature_weights: Array | None,
        d_filters: Array | None,
        first_step: int = 0,
        last_step: int | None = None,
    ) -> None:
        """After forward, whose arrays are still there: the last four are added to, each (B, ...), by these steps."""
        p, dtype = self._sizes, self._dtype
        self._numbers()
        same("backward", "calls of forward before it, at least", int(self._written is not None), 1)
        same("rows", "arrays in the backward pass", int(self._rows.size > 0), 0)
        assert self._written is not None
        last_step = p.T if last_step is None else last_step
        between("last_step", None, last_step, 0, p.T)
        between("first_step", None, first_step, 0, last_step)
        p = p._replace(weighted=int(d_weights is not None))
        inputs = (
            self._each(d_context, "d_context", p.T * p.Dv, True, False),
            self._each(d_weights, "d_weights", p.T * p.S, False, False),
        )
        outputs = (
            self._each(d_query, "d_query", p.T * p.D, True, True),
            self._each(d_history, "d_history", p.T * p.S, p.C > 0, True),
            self._each(d_factor, "d_factor", p.T * p.S, p.factored > 0, True),
            self._each(d_key, "d_key", p.S * p.D, True, True),
            self._each(d_vector, "d_vector", p.D, p.score == ADDITIVE, True),
            self._each(d_feature_weights, "d_feature_weights", p.C * p.D, p.C > 0, True),
            self._each(d_filters, "d_filters", p.C * p.K, p.filtered > 0, True),
        )
        work = np.empty(2 * p.C * p.S + 2 + 4 * (p.D + 1) + p.C * p.D, dtype)
        _backward[dtype](
            p, self._scale, self._query, self._key, self._value, self._vector, self._first, self._last, self._history,
            self._filters, self._u, self._factor, *self._written, *inputs, *outputs, first_step, last_step, work,
            np.empty(p.S),
        )  # fmt: skip


@kernel("i i i i i i i i i x x1 x1 x1 x1 x1 x1 x1 x1! x1! d1! x1!")
def _query(
    samples, keys, width, value_width, score, activation, key_rows, value_rows, weighted, scale, query, key, value, v,
    weights, d_context, d_weights, d_query, d_score, wide, work,
):  # fmt: skip
    zero = like(scale, 0)
    extra, row, dk, dv = work[:width], work[width : 2 * width], work[2 * width : 3 * width], work[3 * width :]
    for b in range(samples):
        at, delta = b * keys, 0.0
        out = d_context[b * value_width : (b + 1) * value_width]
        q, dq = query[b * width : (b + 1) * width], d_query[b * width : (b + 1) * width]
        for d in range(width):
            dq[d] = extra[d] = zero
        for j in range(keys):
            wide[j] = 0
            if weights[at + j] != zero:
                wide[j] = weight_gradient(out, value, (b * value_rows + j) * value_width, value_width)
                if weighted:
                    wide[j] += np.float64(d_weights[at + j])
                delta += np.float64(weights[at + j]) * wide[j]
        for j in range(keys):
            d_score[at + j] = zero
            if weights[at + j] == zero:
                continue
            g = like(zero, np.float64(scale) * (np.float64(weights[at + j]) * (wide[j] - delta)))
            d_score[at + j] = g
            begin = (b * key_rows + j) * width
            pair_backward(score, activation, g, q, key[begin : begin + width], v, extra, row, dq, dk, dv)


def query_backward(
    query: Array,
    keys: Keys,
    score: KernelScore,
    scale: float,
    weights: Array,
    d_context: Array,
    d_query: Array,
    d_score: Array,
    d_weights: Array | None = None,
) -> None:
    """d_query (B, D) and d_score (B, Tk), contiguous, of one query (B, D) for each sample of keys (B, Tk, D) and values
    (B, Tk, Dv), from the weights (B, Tk), contiguous, of its forward pass, d_context (B, Dv), and d_weights (B, Tk),
    contiguous, or None. Without softcap."""
    dtype = floats(query, "query")
    q = tensor(query, "query", dtype, 2, 2)
    k, v, _ = keys.read(dtype, 3, 3, q.T, q.D)
    same("key", "samples", k.B, q.T)
    same("value", "samples", v.B, q.T)
    same("rows", "arrays in the backward pass", (keys.rows is not None) + (keys.table is not None), 0)
    d = tensor(d_context, "d_context", dtype, 2, 2)
    same("d_context", "samples", d.T, q.T)
    same("d_context", "features", d.D, v.D)
    given = flat(weights, "weights", dtype, q.T * k.T)
    outputs = flat(d_query, "d_query", dtype, q.T * q.D, True), flat(d_score, "d_score", dtype, q.T * k.T, True)
    more = maybe(d_weights, "d_weights", dtype, q.T * k.T)
    score.alone()
    vector = score.read(dtype, q.D)
    key, value = np.ascontiguousarray(keys.key), np.ascontiguousarray(keys.value)
    _query[dtype](
        q.T, k.T, q.D, v.D, score.kernel, score.activation, key.shape[1], value.shape[1], int(d_weights is not None),
        dtype.type(scale), np.ascontiguousarray(query).reshape(-1), key.reshape(-1), value.reshape(-1), vector, given,
        np.ascontiguousarray(d_context).reshape(-1), more, *outputs, np.empty(k.T), np.zeros(4 * q.D, dtype),
    )  # fmt: skip
