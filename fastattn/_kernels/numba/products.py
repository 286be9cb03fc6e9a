"""Matrix products with packed weights, and gradients of weights."""

import threading
from typing import Any

import numpy as np

from fastattn._kernels.numba.blocks.compiled import inlined, kernel
from fastattn._kernels.numba.blocks.elements import like
from fastattn._kernels.numba.blocks.lanes import LANES
from fastattn._kernels.numba.blocks.tile import PANEL, multiply, multiply_panels
from fastattn._kernels.numba.checks import (
    WIDEST,
    Array,
    between,
    broadcasts,
    flat,
    floats,
    maybe,
    packed_size,
    same,
    tensor,
)  # fmt: skip
from fastattn._kernels.numba.records import refused
from fastattn._kernels.numba.threads import in_parts

__all__ = [
    "gemm",
    "gemm_narrow",
    "gemm_pack",
    "gemm_packed_elements",
    "gemm_parts_bytes",
    "gemm_split",
    "gemm_tn",
    "narrow_product",
    "parts",
    "set_parts",
]

_ROWS = 48  # of one chain of a gradient of weights; chains are added in float64
_PIECE = {"f": 1024, "d": 512}  # rows whose sum is added to a gradient by itself
_PLAIN = 16  # pieces; later ones are added to each other first


def gemm_packed_elements(like: Array, k: int, n: int) -> int:
    """Return the elements of a packed (k, n) matrix of this dtype."""
    panel = PANEL[floats(like, "like").char]
    return packed_size(between("k", None, k, 0, WIDEST), between("n", None, n, 0, WIDEST), panel)


def gemm_pack(w: Array, transposed: bool, packed: Array) -> None:
    """Pack w, or its transpose, of any strides: [panels][rows][panel], zeros beyond the columns."""
    dtype = floats(w, "w")
    same("w", "axes", w.ndim, 2)
    broadcasts(w, "w", dtype, 2, (1, 1, *w.shape))
    source = w.T if transposed else w
    rows, columns = source.shape
    panel = PANEL[dtype.char]
    out = flat(packed, "packed", dtype, packed_size(rows, columns, panel), True).reshape(
        -(-columns // panel), rows, panel
    )
    whole = columns // panel
    if whole:
        out[:whole] = source[:, : whole * panel].reshape(rows, whole, panel).transpose(1, 0, 2)
    if columns % panel:
        out[whole, :, : columns % panel] = source[:, whole * panel :]
        out[whole, :, columns % panel :] = 0


@kernel("x1 i x1 x1! x1 i i i i i x1! i i")
def _gemm(x, x_row, packed, y, bias, relu, depth, columns, panel, lanes, work, first, last):
    """Rows first..last-1 of the product; work: 6 rows of a block of columns, of whole panels."""
    zero = like(work[0], 0)
    block = work.size // 6
    for r in range(first, last, 6):
        rows = min(6, last - r)
        for j in range(0, columns, block):
            n = min(block, columns - j)
            up = (n + panel - 1) // panel * panel
            multiply_panels(
                rows, up, x, r * x_row, x_row, 1, packed, j * depth, panel * depth, work, 0, block, depth, 0, lanes
            )
            for i in range(rows):
                row = work[i * block : i * block + n]
                out = y[(r + i) * columns + j : (r + i) * columns + j + n]
                if bias.size:
                    added = bias[j : j + n]
                    for c in range(n):
                        row[c] = row[c] + added[c]
                if relu:
                    for c in range(n):
                        row[c] = zero if row[c] < zero else row[c]
                for c in range(n):
                    out[c] = row[c]


def gemm_parts_bytes(like: Array, k: int, n: int, count: int = 3) -> int:
    """Bytes of the parts of a packed matrix for a matrix unit: 0, there is none."""
    floats(like, "like")
    return 0


def gemm_split(w: Array, transposed: bool, parts: Array) -> bool:
    """No matrix has parts."""
    same("parts", "elements", gemm_parts_bytes(w, *w.shape), parts.size or 1)
    return False


class _Precision(threading.local):
    process, thread = 4, 0


def parts(of_thread: bool) -> int:
    """By how many parts of a float32 number a matrix unit multiplies, 4: it does not; of a thread 0: as elsewhere."""
    return _HERE.thread if of_thread else _Precision.process


def set_parts(parts: int, of_thread: bool) -> None:
    """Set that: 1 to 4, of a thread 0 too."""
    between("parts", None, parts, 0 if of_thread else 1, 4)
    if of_thread:
        _HERE.thread = parts
    else:
        _Precision.process = parts


_HERE = _Precision()


def gemm(
    x: Array, packed: Array | None, y: Array, bias: Array | None = None, relu: bool = False, parts: Array | None = None
) -> bool:
    """y (M, N), contiguous, = x (M, K) times a packed (K, N), plus bias (N,), contiguous, then relu if wanted."""
    dtype = floats(x, "x")
    if parts is not None:
        same("parts", "elements", parts.size or 1, 0)
    a, c = tensor(x, "x", dtype, 2, 2), tensor(y, "y", dtype, 2, 2, True, True)
    same("y", "rows", c.T, a.T)
    panel, lanes = PANEL[dtype.char], LANES[dtype.char]
    w = flat(packed, "packed", dtype, packed_size(a.D, c.D, panel))
    added = maybe(bias, "bias", dtype, c.D)
    rows, compiled = np.ascontiguousarray(x).reshape(-1), _gemm[dtype]

    def work(first: int, last: int) -> None:
        mine = np.empty(6 * 4 * lanes, dtype)
        compiled(rows, a.D, w, y.reshape(-1), added, bool(relu), a.D, c.D, panel, lanes, mine, first, last)

    in_parts(work, a.T, float(a.T) * a.D * c.D)
    return True


def gemm_narrow(
    x: Array, packed: Array, y: Array, scales: Array | None = None, plain: Array | None = None,
    bias: Array | None = None, relu: bool = False,
) -> None:  # fmt: skip
    """Refuse: products with matrices of narrow types are not there."""
    raise refused("dtype", "the compiled module for weights of narrow types")


def narrow_product(
    x: object, shape: tuple[int, ...], packed: Array, scales: Array | None, plain: Array | None, bias: object,
    relu: object,
) -> None:  # fmt: skip
    """Return None: there are no such products."""


@inlined
def _add_sums(out, sums):
    """out += sums, each rounded once, and zeros in their place."""
    for i in range(out.size):
        out[i] += like(out[0], sums[i])
        sums[i] = 0


@kernel("x1 i x1 i x1! x1! d1! d1! i i i i x1! i i")
def _gemm_tn(x, x_row, dy, dy_row, dw, db, wide, wide_b, rows, depth, columns, lanes, work, most, piece):
    """Sums of chains of `most` rows that are not zero, in float64 for each `piece` of such rows. These are added to dw
    and db one after the other; those after the first _PLAIN are added to each other before. work: rows of both, and
    their product, of whole vectors."""
    zero = like(work[0], 0)
    up = (columns + lanes - 1) // lanes * lanes
    at_dy, at_dw = most * depth, most * (depth + up)
    r, left, pieces = 0, piece, 1
    while r < rows:
        count = 0
        while r < rows and count < min(most, left):
            row = dy[r * dy_row : r * dy_row + columns]
            used = False
            for c in range(columns):
                if row[c] != zero:
                    used = True
                    break
            if used:
                for c in range(depth):
                    work[count * depth + c] = x[r * x_row + c]
                for c in range(columns):
                    work[at_dy + count * up + c] = row[c]
                for c in range(columns, up):
                    work[at_dy + count * up + c] = zero
                count += 1
            r += 1
        multiply(depth, up, work, 0, 1, depth, work, at_dy, up, work, at_dw, up, count, 0, lanes)
        for i in range(depth):
            sums, chain = wide[i * columns : (i + 1) * columns], work[at_dw + i * up : at_dw + i * up + columns]
            for c in range(columns):
                sums[c] += np.float64(chain[c])
        if db.size:
            for i in range(count):
                row = work[at_dy + i * up : at_dy + i * up + columns]
                for c in range(columns):
                    wide_b[c] += np.float64(row[c])
        left -= count
        if left == 0:
            if pieces <= _PLAIN:
                _add_sums(dw, wide)
                _add_sums(db, wide_b)
            pieces += 1
            left = piece
    if pieces <= _PLAIN:
        _add_sums(dw, wide)
        _add_sums(db, wide_b)
    else:
        for out, sums in ((dw, wide), (db, wide_b)):
            for i in range(out.size):
                out[i] = like(zero, np.float64(out[i]) + sums[i])


def gemm_tn(x: Array, dy: Array, dw: Array, db: Array | None = None, accumulate: bool = False, parts: int = 0) -> None:
    """dw (K, N), contiguous, = x (M, K) transposed times dy (M, N); db (N,), unless None, = the sum of dy's rows.

    accumulate: both are added to, each element continuing its chain. Rows of x whose dy is zero are not read.
    parts: nothing, there is no matrix unit.
    """
    dtype = floats(x, "x")
    a, d = tensor(x, "x", dtype, 2, 2), tensor(dy, "dy", dtype, 2, 2)
    same("dy", "rows", d.T, a.T)
    between("x", "columns", a.D, 0, WIDEST)
    between("dy", "columns", d.D, 0, WIDEST)
    out = flat(dw, "dw", dtype, a.D * d.D, True)
    sums = maybe(db, "db", dtype, d.D, True)
    lanes = LANES[dtype.char]
    up = -(-d.D // lanes) * lanes
    most = min(_ROWS, max(a.T, 1))
    mine: Any = np.empty(most * (a.D + up) + a.D * up, dtype)
    flat_x, flat_dy = np.ascontiguousarray(x).reshape(-1), np.ascontiguousarray(dy).reshape(-1)
    if not accumulate:
        out[...], sums[...] = 0, 0
    wide = [np.zeros(one.size) for one in (out, sums)]
    _gemm_tn[dtype](flat_x, a.D, flat_dy, d.D, out, sums, *wide, a.T, a.D, d.D, lanes, mine, most, _PIECE[dtype.char])
