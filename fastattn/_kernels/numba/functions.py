"""Functions of rows and elements, on contiguous arrays."""

import math

import numpy as np

from fastattn._kernels.numba.blocks.compiled import kernel
from fastattn._kernels.numba.blocks.elements import choose, exp, exp_soft, key_hash, like, row_key, sigmoid, tanh
from fastattn._kernels.numba.checks import (
    Array,
    between,
    flat,
    floats,
    maybe,
    same,
    table,
    tensor,
)  # fmt: skip

__all__ = [
    "largest", "logarithm", "map_array", "mix64", "normalize", "normalize_backward", "relu_backward", "rotary",
    "softmax", "softmax_backward", "uniform",
]  # fmt: skip

_BOOL, _INT64, _UINT64 = np.dtype(np.bool_), np.dtype(np.int64), np.dtype(np.uint64)
_FLOAT64 = np.dtype(np.float64)


@kernel("i x1 x1!")
def _map(function, x, y):
    if function == 0:
        for i in range(x.size):
            y[i] = exp(x[i])
    elif function == 1:
        for i in range(x.size):
            y[i] = tanh(x[i])
    else:
        for i in range(x.size):
            y[i] = sigmoid(x[i])


def map_array(function: int, x: Array, y: Array) -> None:
    """y = exp, tanh or sigmoid (0, 1, 2) of x."""
    dtype = floats(x, "x")
    source, out = flat(x, "x", dtype, x.size), flat(y, "y", dtype, x.size, True)
    between("function", None, function, 0, 2)
    _map[dtype](function, source, out)


@kernel("x1 b1 x1! i i")
def _softmax(x, mask, y, rows, columns):
    zero = like(x[0], 0)
    lowest = like(zero, -np.inf)
    for r in range(rows):
        row = y[r * columns : (r + 1) * columns]
        top = lowest
        for c in range(columns):
            allowed = mask.size == 0 or mask[r * columns + c] != 0
            row[c] = x[r * columns + c] if allowed else lowest
            top = max(top, row[c])
        base = zero if top == lowest else top
        for c in range(columns):
            row[c] = exp_soft(row[c] - base)
        total = 0.0
        for c in range(columns):
            total += np.float64(row[c])
        factor = zero if top == lowest and total == 0 else like(zero, 1 / total)
        for c in range(columns):
            row[c] = row[c] * factor


def softmax(x: Array, mask: Array | None, y: Array, rows: int, columns: int) -> None:
    """Softmax of rows; mask is a bool array of x's shape, or None."""
    dtype, n = floats(x, "x"), table(rows, columns)
    source, out = flat(x, "x", dtype, n), flat(y, "y", dtype, n, True)
    allowed = maybe(mask, "mask", _BOOL, n).view(np.uint8)
    if n:
        _softmax[dtype](source, allowed, out, rows, columns)


@kernel("x1 x1 x1! i i")
def _softmax_backward(y, dy, dx, rows, columns):
    zero = like(y[0], 0)
    for r in range(rows):
        total = 0.0
        for c in range(r * columns, (r + 1) * columns):
            if y[c] != zero:
                total += np.float64(y[c]) * np.float64(dy[c])
        for c in range(r * columns, (r + 1) * columns):
            dx[c] = like(zero, np.float64(y[c]) * (np.float64(dy[c]) - total)) if y[c] != zero else zero


def softmax_backward(y: Array, dy: Array, dx: Array, rows: int, columns: int) -> None:
    """dx from y = softmax(x) and dy."""
    dtype, n = floats(y, "y"), table(rows, columns)
    given = flat(y, "y", dtype, n), flat(dy, "dy", dtype, n), flat(dx, "dx", dtype, n, True)
    if n:
        _softmax_backward[dtype](*given, rows, columns)


@kernel("x1 x1! x1! i i")
def _normalize(x, y, inverse, rows, columns):
    zero, one = like(inverse[0], 0), like(inverse[0], 1)
    small, up = choose(one, 2.0**-100, 2.0**-900), choose(one, 2.0**64, 2.0**200)
    for r in range(rows):
        row, out = x[r * columns : (r + 1) * columns], y[r * columns : (r + 1) * columns]
        largest = zero
        for c in range(columns):
            largest = max(largest, abs(row[c]))
        # A power of two first, so that neither the length nor its reciprocal leaves the normal numbers.
        power = up if largest < small else (one / up if largest > one / small else one)
        scale = one / (largest * power) if largest != zero else one
        total = 0.0
        for c in range(columns):
            scaled = np.float64((row[c] * power) * scale)
            total += scaled * scaled
        factor = zero if total == 0 else like(one, np.float64(scale) / math.sqrt(total))
        inverse[2 * r], inverse[2 * r + 1] = factor, power
        for c in range(columns):
            out[c] = (row[c] * power) * factor


def normalize(x: Array, y: Array, inverse_norm: Array, rows: int, columns: int) -> None:
    """y = rows of x scaled to unit length, inverse_norm (rows, 2) = two factors of 1 / length; zero rows give zeros."""
    dtype, n = floats(x, "x"), table(rows, columns)
    source, out = flat(x, "x", dtype, n), flat(y, "y", dtype, n, True)
    factors = flat(inverse_norm, "inverse_norm", dtype, 2 * rows, True)
    if rows:
        _normalize[dtype](source, out, factors, rows, columns)


@kernel("x1 x1 x1 x1! i i")
def _normalize_backward(y, inverse, dy, dx, rows, columns):
    zero = like(y[0], 0)
    for r in range(rows):
        along, used = 0.0, False
        for c in range(r * columns, (r + 1) * columns):
            along += np.float64(y[c]) * np.float64(dy[c])
            used = used or dy[c] != zero
        for c in range(r * columns, (r + 1) * columns):
            rest = like(zero, np.float64(dy[c]) - np.float64(y[c]) * along)
            counts = used and inverse[2 * r] != zero  # a masked key may be NaN
            dx[c] = (rest * inverse[2 * r]) * inverse[2 * r + 1] if counts else zero


def normalize_backward(y: Array, inverse_norm: Array, dy: Array, dx: Array, rows: int, columns: int) -> None:
    """dx from the results of normalize and dy."""
    dtype, n = floats(y, "y"), table(rows, columns)
    outputs, out = flat(y, "y", dtype, n), flat(dx, "dx", dtype, n, True)
    d, factors = flat(dy, "dy", dtype, n), flat(inverse_norm, "inverse_norm", dtype, 2 * rows)
    if n:
        _normalize_backward[dtype](outputs, factors, d, out, rows, columns)


def mix64(x: int) -> int:
    """Return the 64-bit mixing function of the dropout hash, of a Python integer."""
    word = 2**64 - 1
    u = (int(x) + 0x9E3779B97F4A7C15) & word
    u = ((u ^ (u >> 30)) * 0xBF58476D1CE4E5B9) & word
    u = ((u ^ (u >> 27)) * 0x94D049BB133111EB) & word
    return u ^ (u >> 31)


def relu_backward(y: Array, d: Array) -> None:
    """d becomes 0 where y = relu(...) is not above 0; both contiguous."""
    dtype = floats(y, "y")
    outputs, gradient = flat(y, "y", dtype, y.size), flat(d, "d", dtype, y.size, True)
    np.copyto(gradient, 0, where=outputs <= 0)


def largest(x: Array, values: Array, ids: Array) -> None:
    """values and ids (M, k): the k largest elements of each row of x (M, N) in descending order, of equal ones the
    first first, and their columns; NaN counts, and is given, as -inf. All contiguous, ids int64, k <= N."""
    dtype = floats(x, "x")
    s, found = tensor(x, "x", dtype, 2, 2, False, True), tensor(values, "values", dtype, 2, 2, True, True)
    same("values", "rows", found.T, s.T)
    k = between("values", "columns", found.D, 0, s.D)
    out = flat(ids, "ids", _INT64, found.T * k, True).reshape(found.T, k)
    if not k or not s.T:
        return
    known = np.where(np.isnan(x), dtype.type(-np.inf), x)
    out[...] = np.argsort(-known, axis=1, kind="stable")[:, :k]
    values[...] = np.take_along_axis(known, out, axis=1)


def rotary(x: Array, cosines: Array, sines: Array, interleaved: bool, inverse: bool, y: Array) -> None:
    """y (B, T, H, D), contiguous, = x (B, H, T, D) with pairs of features turned; cosines and sines (T, n / 2)."""
    dtype = floats(x, "x")
    s, angles = tensor(x, "x", dtype, 4, 4), tensor(cosines, "cosines", dtype, 2, 2, False, True)
    same("cosines", "positions", angles.T, s.T)
    half = between("cosines", "pairs of features", angles.D, 0, s.D // 2)
    sine = flat(sines, "sines", dtype, angles.T * half).reshape(angles.T, 1, half)
    cosine = cosines.reshape(angles.T, 1, half)
    out = flat(y, "y", dtype, x.size, True).reshape(s.B, s.T, s.H, s.D)
    rows = x.transpose(0, 2, 1, 3)
    n = 2 * half
    step = (slice(0, n, 2), slice(1, n, 2)) if interleaved else (slice(0, half), slice(half, n))
    a, b = rows[..., step[0]], rows[..., step[1]]
    if inverse:
        sine = -sine
    first, second = a * cosine - b * sine, b * cosine + a * sine
    out[..., n:] = rows[..., n:]
    out[..., step[0]], out[..., step[1]] = first, second


@kernel("x1 u1 i x1! i i")
def _logarithm(x, seeds, step, y, rows, columns):
    for b in range(rows):
        key = row_key(seeds[b], -3, step) if seeds.size else row_key(np.uint64(0), -3, step)
        for j in range(columns):
            at = np.float64(x[b * columns + j])
            found = math.log(at) if at > 0 else (-np.inf if at == 0 else np.nan)
            if seeds.size and found != -np.inf:
                found -= math.log(-math.log((np.float64(key_hash(key, j)) + 0.5) * 2.0**-32))
            y[b * columns + j] = like(y[0], found)


def logarithm(x: Array, seeds: Array | None, step: int, y: Array) -> None:
    """y = log x for rows (B, S); with seeds (B,) uint64 plus standard Gumbel noise. Contiguous."""
    dtype = floats(x, "x")
    s = tensor(x, "x", dtype, 2, 2, False, True)
    out, keys = flat(y, "y", dtype, s.T * s.D, True), maybe(seeds, "seeds", _UINT64, s.T)
    if s.T * s.D:
        _logarithm[dtype](x.reshape(-1), keys, step, out, s.T, s.D)


def uniform(seeds: Array, step: int, draw: int, u: Array) -> None:
    """u (B,) float64, in (0, 1): a number of each seed, uint64."""
    out = flat(u, "u", _FLOAT64, u.size, True)
    keys = flat(seeds, "seeds", _UINT64, u.size)
    _uniform[_FLOAT64](keys, step, draw, out)


@kernel("u1 i i d1!")
def _uniform(seeds, step, draw, u):
    for b in range(u.size):
        u[b] = (np.float64(key_hash(row_key(seeds[b], -4, step), draw)) + 0.5) * 2.0**-32
