"""Losses, optimisers, embeddings, layer normalization and dropout, on contiguous arrays."""

import math
from typing import Any

import numpy as np

from fastattn._kernels.numba.blocks.compiled import kernel
from fastattn._kernels.numba.blocks.elements import choose, exp_soft, fma, key_hash, like, root, row_key
from fastattn._kernels.numba.checks import (
    MOST,
    Array,
    between,
    flat,
    floats,
    maybe,
    same,
    table,
    tensor,
    within,
)  # fmt: skip
from fastattn._kernels.numba.threads import in_parts

__all__ = [
    "adam", "add_scaled", "cross_entropy", "dropout", "gather", "layer_norm", "layer_norm_backward", "layer_normalized",
    "log_softmax", "scatter", "square_sum",
]  # fmt: skip

_FLOAT64, _INT64, _UINT64 = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.uint64)


@kernel("x1! x1 i1 d i d1! i i i x1!")
def _cross_entropy(logits, bias, targets, smoothing, gradient, losses, columns, first, last, powers):
    zero = like(logits[0], 0)
    share = like(zero, smoothing / columns)
    for r in range(first, last):
        row = logits[r * columns : (r + 1) * columns]
        if bias.size:
            for c in range(columns):
                row[c] = row[c] + bias[c]
        top = like(zero, -np.inf)
        for c in range(columns):
            top = max(top, row[c])
        if top == like(zero, -np.inf):
            top = zero
        hit = np.float64(row[targets[r]]) - np.float64(top)
        for c in range(columns):
            powers[c] = exp_soft(row[c] - top)
        total, apart = 0.0, 0.0
        for c in range(columns):
            total += np.float64(powers[c])
        losses[r] = math.log(total) - (1 - smoothing) * hit
        if smoothing != 0:
            for c in range(columns):
                apart += np.float64(row[c] - top)
            losses[r] -= smoothing / columns * apart
        if gradient:
            inverse = zero if total == 0 else like(zero, 1 / total)
            for c in range(columns):
                row[c] = fma(powers[c], inverse, -share)
            row[targets[r]] = row[targets[r]] - like(zero, 1 - smoothing)


def cross_entropy(
    logits: Array, bias: Array | None, targets: Array, smoothing: float, gradient: bool, losses: Array
) -> None:
    """losses (M,) float64 of logits (M, V) plus bias against int64 targets; with gradient, logits become theirs, and
    otherwise nothing that is worth reading."""
    dtype = floats(logits, "logits")
    s = tensor(logits, "logits", dtype, 2, 2, True, True)
    added = maybe(bias, "bias", dtype, s.D)
    at = within(targets, "targets", s.T, 0, s.D - 1)
    out = flat(losses, "losses", _FLOAT64, s.T, True)
    compiled = _cross_entropy[dtype]

    def work(first: int, last: int) -> None:
        compiled(
            logits.reshape(-1), added, at, float(smoothing), bool(gradient), out, s.D, first, last,
            np.empty(s.D, dtype),
        )  # fmt: skip

    if s.D:
        in_parts(work, s.T, 10.0 * s.T * s.D)


@kernel("x1 x1 x1! i i")
def _log_softmax(x, bias, y, rows, columns):
    zero = like(x[0], 0)
    lowest = like(zero, -np.inf)
    for r in range(rows):
        top = lowest
        for c in range(columns):
            found = x[r * columns + c]
            if bias.size:
                found = found + bias[c]
            y[r * columns + c] = found
            top = max(top, found)
        if top == lowest:
            top = zero
        total = 0.0
        for c in range(columns):
            total += np.float64(exp_soft(y[r * columns + c] - top))
        rest = zero if total == 0 else like(zero, math.log(total))
        for c in range(columns):
            y[r * columns + c] = (y[r * columns + c] - top) - rest


def log_softmax(x: Array, bias: Array | None, y: Array, rows: int, columns: int) -> None:
    """y = log-softmax of rows of x plus bias (or None); y may be x."""
    dtype, n = floats(x, "x"), table(rows, columns)
    source, out = flat(x, "x", dtype, n), flat(y, "y", dtype, n, True)
    added = maybe(bias, "bias", dtype, columns)
    if n:
        _log_softmax[dtype](source, added, out, rows, columns)


@kernel("x1! x1! x1! x1! x x x x x x x x x i i i")
def _adam(value, gradient, m, v, scale, beta1, beta2, rest1, rest2, size, spread, epsilon, keep, clear, first, last):
    zero = like(scale, 0)
    least = choose(scale, 1.17549435e-38, 2.2250738585072014e-308)
    most = choose(scale, 2.0**63, 2.0**511)
    infinite = like(scale, np.inf)
    for i in range(first, last):
        g = gradient[i] * scale
        if abs(g) < infinite:
            g = min(most, max(-most, g))
        mean = fma(beta1, m[i], rest1 * g)
        square = fma(beta2, v[i], rest2 * g * g)
        mean = zero if abs(mean) < least else mean
        square = zero if abs(square) < least else square
        value[i] = fma(size, mean / fma(root(square), spread, epsilon), keep * value[i])
        m[i] = mean
        v[i] = square
        if clear:
            gradient[i] = zero


def adam(
    value: Array,
    gradient: Array,
    m: Array,
    v: Array,
    scale: float,
    beta1: float,
    beta2: float,
    size: float,
    spread: float,
    epsilon: float,
    keep: float,
    clear: bool = True,
    parts: None = None,
    turned: None = None,
) -> tuple[bool, bool]:
    """One step in place, gradient set to zero if clear; numbers as in csrc/ops/adam.inl. There are no parts here."""
    dtype = floats(value, "value")
    n = value.size
    named = (("value", value), ("gradient", gradient), ("m", m), ("v", v))
    arrays = [flat(array, name, dtype, n, True) for name, array in named]
    with np.errstate(over="ignore"):
        factors = [dtype.type(x) for x in (scale, beta1, beta2, 1 - beta1, 1 - beta2, -size, spread, epsilon, keep)]
    compiled = _adam[dtype]
    in_parts(lambda first, last: compiled(*arrays, *factors, int(clear), first, last), n, 20.0 * n)
    return True, True


@kernel("x1 x x1!")
def _add_scaled(x, scale, y):
    for i in range(x.size):
        y[i] = fma(scale, x[i], y[i])


def add_scaled(x: Array, scale: float, y: Array) -> None:
    """y += scale x, contiguous, one rounding for each element."""
    dtype = floats(x, "x")
    _add_scaled[dtype](flat(x, "x", dtype, x.size), dtype.type(scale), flat(y, "y", dtype, x.size, True))


@kernel("x1 d1!")
def _square_sum(x, sums):
    for i in range(x.size // 16 * 16):
        sums[i % 16] += np.float64(x[i]) * np.float64(x[i])
    for i in range(x.size // 16 * 16, x.size):
        sums[0] += np.float64(x[i]) * np.float64(x[i])


def square_sum(x: Array, start: float) -> float:
    """Return start plus the sum of the squares of a contiguous array, in float64."""
    dtype, sums = floats(x, "x"), np.zeros(16)
    _square_sum[dtype](flat(x, "x", dtype, x.size), sums)
    total = 0.0
    for one in sums.tolist():
        total += one
    return start + total


def gather(table: Array, ids: Array, y: Array, columns: bool = False) -> None:
    """y[i] = table[ids[i]] for int64 ids; all contiguous. columns: y[i] = table[:, ids[i]]."""
    dtype = floats(table, "table")
    n = int(np.size(ids))
    s = tensor(table, "table", dtype, 2, 2, False, True)
    size, width = (s.D, s.T) if columns else (s.T, s.D)
    rows = within(ids, "ids", n, 0, size - 1)
    out = flat(y, "y", dtype, n * width, True)
    if n and columns:
        out.reshape(n, width)[...] = np.take(table, rows, axis=1, mode="clip").T
    elif n:
        np.take(table, rows, axis=0, out=out.reshape(n, width), mode="clip")  # they are inside


@kernel("x1 i1 i1 x1! d1! i")
def _scatter(dy, ids, order, rows, sums, width):
    """order: where rows of dy are, those of one id together; sums: a row in float64."""
    for n in range(order.size):
        row = rows[ids[order[n]] * width : (ids[order[n]] + 1) * width]
        added = dy[order[n] * width : (order[n] + 1) * width]
        if n == 0 or ids[order[n - 1]] != ids[order[n]]:
            for c in range(width):
                sums[c] = np.float64(row[c])
        for c in range(width):
            sums[c] += np.float64(added[c])
        if n + 1 == order.size or ids[order[n + 1]] != ids[order[n]]:
            for c in range(width):
                row[c] = like(row[0], sums[c])


def scatter(dy: Array, ids: Array, skip: int, table: Array, columns: bool = False) -> None:
    """table[ids[i]] += dy[i] in ascending order, unless ids[i] == skip; dy (n, width). columns: table[:, ids[i]]."""
    dtype = floats(table, "table")
    s, d = tensor(table, "table", dtype, 2, 2, True, True), tensor(dy, "dy", dtype, 2, 2)
    size, width = (s.D, s.T) if columns else (s.T, s.D)
    same("dy", "columns", d.D, width)
    rows = flat(ids, "ids", _INT64, d.T)
    for number in rows[(rows < 0) | (rows >= size)].tolist():
        if number != skip:
            between("ids", None, number, 0, size - 1)
    order = np.argsort(rows, kind="stable")
    order = order[rows[order] != skip].astype(np.int64)
    into = np.ascontiguousarray(table.T) if columns else table
    _scatter[dtype](np.ascontiguousarray(dy).reshape(-1), rows, order, into.reshape(-1), np.empty(width), width)
    if columns:
        table[...] = into.T


@kernel("x1 x1 x1 d x1! x1! x1! i i i")
def _layer_norm(x, gain, offset, epsilon, y, mean, inverse, columns, first, last):
    zero = like(x[0], 0)
    for r in range(first, last):
        row = x[r * columns : (r + 1) * columns]
        total, squares = 0.0, 0.0
        for c in range(columns):
            total += np.float64(row[c])
        middle = total / columns
        for c in range(columns):
            apart = np.float64(row[c]) - middle
            squares += apart * apart
        spread = squares / columns + epsilon
        factor = 0.0 if spread == 0 else 1 / math.sqrt(spread)
        for c in range(columns):
            n = like(zero, (np.float64(row[c]) - middle) * factor)
            y[r * columns + c] = fma(n, gain[c], offset[c])
        mean[r] = like(zero, middle)
        inverse[r] = like(zero, factor)


def layer_norm(x: Array, gain: Array, offset: Array, epsilon: float, y: Array, mean: Array, inverse: Array) -> None:
    """y (M, N) from x (M, N); mean and inverse (M,) are for layer_norm_backward."""
    dtype = floats(x, "x")
    s = tensor(x, "x", dtype, 2, 2)
    given = flat(gain, "gain", dtype, s.D), flat(offset, "offset", dtype, s.D)
    outputs = (
        flat(y, "y", dtype, s.T * s.D, True), flat(mean, "mean", dtype, s.T, True),
        flat(inverse, "inverse", dtype, s.T, True),
    )  # fmt: skip
    rows, compiled = np.ascontiguousarray(x).reshape(-1), _layer_norm[dtype]

    def work(first: int, last: int) -> None:
        compiled(rows, *given, float(epsilon), *outputs, s.D, first, last)

    if s.D:
        in_parts(work, s.T, 10.0 * s.T * s.D)


def layer_normalized(x: object, gain: Array, offset: Array, epsilon: float, added: object = None) -> None:
    """Return None: there is no shorter way here."""


@kernel("x1 x1 x1 x1 x1 x1! d1! d1! i i")
def _layer_norm_backward(x, gain, mean, inverse, dy, dx, gains, offsets, rows, columns):
    zero = like(x[0], 0)
    for r in range(rows):
        used = False
        for c in range(columns):
            if dy[r * columns + c] != zero:
                used = True
        if not used:
            for c in range(columns):
                dx[r * columns + c] = zero
            continue
        middle, factor = np.float64(mean[r]), np.float64(inverse[r])
        total, along = 0.0, 0.0
        for c in range(columns):
            d = np.float64(dy[r * columns + c])
            n = (np.float64(x[r * columns + c]) - middle) * factor
            g = np.float64(gain[c]) * d
            total += g
            along += g * n
            gains[c] += d * n
            offsets[c] += d
        level, tilt = total / columns, along / columns
        for c in range(columns):
            n = (np.float64(x[r * columns + c]) - middle) * factor
            g = np.float64(gain[c]) * np.float64(dy[r * columns + c])
            dx[r * columns + c] = like(zero, (g - level - n * tilt) * factor)


def layer_norm_backward(
    x: Array, gain: Array, mean: Array, inverse: Array, dy: Array, dx: Array, d_gain: Array, d_offset: Array
) -> None:
    """dx (M, N), contiguous; d_gain and d_offset (N,) are added to."""
    dtype = floats(x, "x")
    s, d = tensor(x, "x", dtype, 2, 2), tensor(dy, "dy", dtype, 2, 2)
    same("dy", "rows", d.T, s.T)
    same("dy", "columns", d.D, s.D)
    given = (
        np.ascontiguousarray(x).reshape(-1), flat(gain, "gain", dtype, s.D), flat(mean, "mean", dtype, s.T),
        flat(inverse, "inverse", dtype, s.T), np.ascontiguousarray(dy).reshape(-1),
    )  # fmt: skip
    out = flat(dx, "dx", dtype, s.T * s.D, True)
    of_gain, of_offset = flat(d_gain, "d_gain", dtype, s.D, True), flat(d_offset, "d_offset", dtype, s.D, True)
    gains, offsets = np.zeros(s.D), np.zeros(s.D)
    if s.D:
        _layer_norm_backward[dtype](*given, out, gains, offsets, s.T, s.D)
    with np.errstate(over="ignore"):
        of_gain += gains.astype(dtype)
        of_offset += offsets.astype(dtype)


@kernel("x1 x1! u1 i x i i")
def _dropout(x, y, seeds, below, keep, elements, samples):
    zero = like(keep, 0)
    for b in range(samples):
        for start in range(0, elements, 1 << 32):
            key = row_key(seeds[b], -1, start >> 32)
            n = min(elements - start, 1 << 32)
            source = x[b * elements + start : b * elements + start + n]
            out = y[b * elements + start : b * elements + start + n]
            for i in range(n):
                out[i] = zero if key_hash(key, i) < below else source[i] * keep


def dropout(x: Array, seeds: Array, drop_below: int, keep_scale: float, y: Array) -> None:
    """y = x with elements of each sample (first axis) dropped; x and y contiguous, seeds uint64 (B,)."""
    dtype = floats(x, "x")
    between("x", "axes", x.ndim, 1, MOST)
    samples = x.shape[0]
    source, out = flat(x, "x", dtype, x.size), flat(y, "y", dtype, x.size, True)
    keys = flat(seeds, "seeds", _UINT64, samples)
    between("drop_below", None, drop_below, 0, 2**32 - 1)
    elements = x.size // samples if samples else 0
    factor: Any = dtype.type(keep_scale)
    _dropout[dtype](source, out, keys, drop_below, factor, elements, samples)
