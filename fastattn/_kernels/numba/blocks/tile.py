"""Tiles of matrix products in registers, and passes over rows of whole vectors.

Every element of a product is one chain of multiply-adds in ascending order of the inner index, in a tile of any size.
Rows that are read or written in whole vectors have room for these; offsets are elements from an array's start.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from fastattn._kernels.numba.blocks.compiled import inlined
from fastattn._kernels.numba.blocks.elements import like
from fastattn._kernels.numba.blocks.lanes import LANES, SQUARE, WIDE, Lanes, address, lanes_of, written

__all__ = [
    "ADD", "CONTINUE", "FRESH", "PANEL", "ROWS", "dot_row", "exp_row", "finite_row", "keep_sums", "multiply",
    "multiply_panels", "pack_panel", "padded", "scale_row", "settle_sums", "sum_row", "tile_columns",
    "tile_rows", "top_row",
]  # fmt: skip

ROWS = 6
_VECTORS = 4 if WIDE else 1
PANEL = {kind: _VECTORS * lanes for kind, lanes in LANES.items()}  # columns of a panel: those of a tile
FRESH, CONTINUE, ADD = 0, 1, 2  # what a product does with what is there: replaces it, is its chain's end, is added


def _tile(rows: int, vectors: int) -> Any:
    """Make a product of `rows` rows and `vectors` vectors of columns: C (+)= A B.

    A has steps a_row from row to row and a_step along the inner index; rows of B and C are b_row and c_row apart.
    """

    def typed(context: Any, a: Any, a0: Any, a_row: Any, a_step: Any, b: Any, b0: Any, b_row: Any, c: Any, c0: Any,
              c_row: Any, depth: Any, mode: Any) -> Any:  # fmt: skip
        arguments = (a, a0, a_row, a_step, b, b0, b_row, c, c0, c_row, depth, mode)
        kinds = [kind if isinstance(kind, types.Array) else types.int64 for kind in arguments]

        def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
            lanes = lanes_of(signature, builder)
            at = [address(context, builder, kinds[i], values[i]) for i in (0, 4, 7)]
            a0, a_row, a_step, b0, b_row, c0, c_row, depth, mode = (values[i] for i in (1, 2, 3, 5, 6, 8, 9, 10, 11))
            word = ir.IntType(64)
            go_on = builder.icmp_signed("==", mode, ir.Constant(word, CONTINUE))
            add = builder.icmp_signed("==", mode, ir.Constant(word, ADD))
            zero = lanes.of(0)

            def place(row: int, vector: int) -> Any:
                of_row = builder.add(c0, builder.mul(c_row, ir.Constant(word, row)))
                return builder.add(of_row, ir.Constant(word, vector * lanes.count))

            sums = [
                [lanes.variable(builder.select(go_on, lanes.load(at[2], place(r, v)), zero)) for v in range(vectors)]
                for r in range(rows)
            ]
            with lanes.steps(depth, 1) as (k, _):
                of_b = builder.add(b0, builder.mul(k, b_row))
                of_a = builder.add(a0, builder.mul(k, a_step))
                right = [
                    lanes.load(at[1], builder.add(of_b, ir.Constant(word, v * lanes.count))) for v in range(vectors)
                ]
                for r in range(rows):
                    left = lanes.load_one(at[0], builder.add(of_a, builder.mul(a_row, ir.Constant(word, r))))
                    for v in range(vectors):
                        builder.store(lanes.fma(left, right[v], builder.load(sums[r][v])), sums[r][v])
            for r in range(rows):
                for v in range(vectors):
                    before = builder.select(add, lanes.load(at[2], place(r, v)), zero)
                    lanes.store(lanes.add(before, builder.load(sums[r][v])), at[2], place(r, v))
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return written(typed)


_6_wide, _4_wide, _2_wide, _1_wide = (_tile(rows, _VECTORS) for rows in (6, 4, 2, 1))
_6_one, _4_one, _2_one, _1_one = (_tile(rows, 1) for rows in (6, 4, 2, 1))


@inlined
def tile_columns(lanes):
    """Columns of a tile, and of a panel that `multiply_panels` reads."""
    return _VECTORS * lanes


@inlined
def tile_rows(left):
    """Rows of the next tile when so many are left: eight are twice four, not six and two, which wait for each sum."""
    return 4 if left == 8 else min(left, ROWS)


@inlined
def multiply(rows, columns, a, a0, a_row, a_step, b, b0, b_row, c, c0, c_row, depth, mode, lanes):
    """C = A B of any sizes, or what `mode` says; columns are rounded up to whole vectors of `lanes`."""
    next_tile = _VECTORS * lanes
    _multiply(rows, columns, a, a0, a_row, a_step, b, b0, b_row, next_tile, c, c0, c_row, depth, mode, lanes)


@inlined
def multiply_panels(rows, columns, a, a0, a_row, a_step, b, b0, size, c, c0, c_row, depth, mode, lanes):
    """The same for B in panels of a tile's columns, `size` numbers from each to the next: read in order. All in one
    call, as one for each panel takes a fifth of the time of a narrow one."""
    width = _VECTORS * lanes
    _multiply(rows, columns, a, a0, a_row, a_step, b, b0, width, size, c, c0, c_row, depth, mode, lanes)


@inlined
def _multiply(rows, columns, a, a0, a_row, a_step, b, b0, b_row, b_next, c, c0, c_row, depth, mode, lanes):
    """b_next: from one tile of columns to the next."""
    r = 0
    wide = columns // (_VECTORS * lanes)
    while r < rows:
        left = tile_rows(rows - r)
        ar, cr = a0 + r * a_row, c0 + r * c_row
        bj, cj, end = b0, cr, cr + columns
        if left == 6:
            for _ in range(wide):
                _6_wide(a, ar, a_row, a_step, b, bj, b_row, c, cj, c_row, depth, mode)
                bj += b_next
                cj += _VECTORS * lanes
            while cj < end:
                _6_one(a, ar, a_row, a_step, b, bj, b_row, c, cj, c_row, depth, mode)
                bj += lanes
                cj += lanes
            r += 6
        elif left >= 4:
            for _ in range(wide):
                _4_wide(a, ar, a_row, a_step, b, bj, b_row, c, cj, c_row, depth, mode)
                bj += b_next
                cj += _VECTORS * lanes
            while cj < end:
                _4_one(a, ar, a_row, a_step, b, bj, b_row, c, cj, c_row, depth, mode)
                bj += lanes
                cj += lanes
            r += 4
        elif left >= 2:
            for _ in range(wide):
                _2_wide(a, ar, a_row, a_step, b, bj, b_row, c, cj, c_row, depth, mode)
                bj += b_next
                cj += _VECTORS * lanes
            while cj < end:
                _2_one(a, ar, a_row, a_step, b, bj, b_row, c, cj, c_row, depth, mode)
                bj += lanes
                cj += lanes
            r += 2
        else:
            for _ in range(wide):
                _1_wide(a, ar, a_row, a_step, b, bj, b_row, c, cj, c_row, depth, mode)
                bj += b_next
                cj += _VECTORS * lanes
            while cj < end:
                _1_one(a, ar, a_row, a_step, b, bj, b_row, c, cj, c_row, depth, mode)
                bj += lanes
                cj += lanes
            r += 1


def _square(all_rows: bool) -> Any:
    """Make a square of SQUARE rows and columns, from rows `stride` apart to rows `width` apart; unless it has all of
    its rows, zeros are in the place of others than the first `count`."""

    def typed(context: Any, source: Any, at: Any, stride: Any, count: Any, panel: Any, to: Any, width: Any) -> Any:
        kinds = (source, types.int64, types.int64, types.int64, panel, types.int64, types.int64)

        def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
            lanes = Lanes(builder, source.dtype, SQUARE[source.dtype])
            read, write = (address(context, builder, kinds[i], values[i]) for i in (0, 4))
            number = [ir.Constant(ir.IntType(64), i) for i in range(lanes.count)]
            at, stride, count, to, width = (values[i] for i in (1, 2, 3, 5, 6))

            def row(i: Any) -> Any:
                if all_rows:
                    return lanes.load(read, builder.add(at, builder.mul(stride, i)))
                there = builder.icmp_signed("<", i, count)
                first = builder.select(there, builder.mul(stride, i), number[0])
                return builder.select(there, lanes.load(read, builder.add(at, first)), lanes.of(0))

            rows = [row(i) for i in number]
            if all_rows:  # the next rows come while these are turned
                for i in range(lanes.count):
                    lanes.ask(read, builder.add(at, builder.mul(stride, ir.Constant(ir.IntType(64), i + lanes.count))))
            step = 1
            while step < lanes.count:  # exchanges squares of `step` lanes beside the diagonal of those twice as large
                for i in range(lanes.count):
                    if not i & step:
                        rows[i], rows[i + step] = lanes.exchanged(rows[i], rows[i + step], step)
                step *= 2
            for i, column in zip(number, rows):
                lanes.store(column, write, builder.add(to, builder.mul(width, i)))
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return written(typed)


_whole_square, _part_of_square = _square(True), _square(False)


@written
def _side(context: Any, x: Any) -> Any:
    """SQUARE for the type of an array's elements."""
    side = SQUARE[x.dtype]
    return types.int64(x), lambda context, builder, signature, values: ir.Constant(ir.IntType(64), side)


@inlined
def pack_panel(source, at, stride, n, depth, panel, to, width):
    """Panel [depth][width] of n rows of `depth` elements, `stride` apart; zeros beyond the rows."""
    side = _side(panel)
    squares, up, whole = n // side * side, (n + side - 1) // side * side, depth // side * side
    for j in range(0, squares, side):
        for t in range(0, whole, side):
            _whole_square(source, at + j * stride + t, stride, side, panel, to + t * width + j, width)
    if squares < n:
        for t in range(0, whole, side):
            of_rows = at + squares * stride + t
            _part_of_square(source, of_rows, stride, n - squares, panel, to + t * width + squares, width)
    for t in range(0 if up < width else whole, depth):
        row = panel[to + t * width : to + (t + 1) * width]
        if t >= whole:
            for j in range(n):
                row[j] = source[at + j * stride + t]
        for j in range(up if t < whole else n, width):
            row[j] = 0


@inlined
def padded(source, at, n, out, to, size):
    """out = n numbers, and zeros up to `size`."""
    row, all_of_it = source[at : at + n], out[to : to + size]
    for c in range(n):
        all_of_it[c] = row[c]
    for c in range(n, size):
        all_of_it[c] = like(all_of_it[0], 0)


@inlined
def keep_sums(x, at, kept):
    """Add sums that begin at x[at] to those in float64, and begin anew: so their errors do not grow with the rows."""
    sums = x[at : at + kept.size]
    for c in range(kept.size):
        kept[c] += np.float64(sums[c])
        sums[c] = 0


@inlined
def settle_sums(x, at, kept):
    """The last of `keep_sums`: x has the whole sums, and `kept` zeros for others."""
    sums = x[at : at + kept.size]
    for c in range(kept.size):
        sums[c] = kept[c] + np.float64(sums[c])
        kept[c] = 0


def _row(arguments: int, write: Any) -> Any:
    """Make a pass over elements at..at+n-1 of an array in whole vectors, n rounded up; `write` returns a number."""

    def typed_2(context: Any, x: Any, at: Any, n: Any, a: Any) -> Any:
        return form((x, types.int64, types.int64, x.dtype))

    def typed_3(context: Any, x: Any, at: Any, n: Any, y: Any, y_at: Any) -> Any:
        return form((x, types.int64, types.int64, y, types.int64))

    def form(kinds: tuple[Any, ...]) -> Any:
        real = kinds[0].dtype

        def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
            given = [
                address(context, builder, kind, value) if isinstance(kind, types.Array) else value
                for kind, value in zip(kinds, values)
            ]
            return write(Lanes(builder, real), *given)

        return real(*kinds), generate

    return written(typed_2 if arguments == 2 else typed_3)


def _write_exp(lanes: Lanes, x: Any, at: Any, n: Any, base: Any) -> Any:
    less, total = lanes.spread(base), lanes.variable(lanes.of(0))
    with lanes.steps(n, lanes.count) as (j, _):
        place = lanes.builder.add(at, j)
        power = lanes.exp_soft(lanes.sub(lanes.load(x, place), less))
        lanes.store(power, x, place)
        lanes.builder.store(lanes.add(lanes.builder.load(total), power), total)
    return lanes.sum(lanes.builder.load(total))


def _write_top(lanes: Lanes, x: Any, at: Any, n: Any, least: Any) -> Any:
    best = lanes.variable(lanes.spread(least))
    with lanes.steps(n, lanes.count) as (j, _):
        found = lanes.load(x, lanes.builder.add(at, j))
        lanes.builder.store(lanes.max(found, lanes.builder.load(best)), best)
    return lanes.top(lanes.builder.load(best))


def _write_scale(lanes: Lanes, x: Any, at: Any, n: Any, factor: Any) -> Any:
    times = lanes.spread(factor)
    with lanes.steps(n, lanes.count) as (j, _):
        place = lanes.builder.add(at, j)
        lanes.store(lanes.mul(lanes.load(x, place), times), x, place)
    return factor


def _write_sum(lanes: Lanes, x: Any, at: Any, n: Any, start: Any) -> Any:
    total = lanes.variable(lanes.of(0))
    with lanes.steps(n, lanes.count) as (j, _):
        found = lanes.load(x, lanes.builder.add(at, j))
        lanes.builder.store(lanes.add(lanes.builder.load(total), found), total)
    return lanes.builder.fadd(start, lanes.sum(lanes.builder.load(total)))


def _write_finite(lanes: Lanes, x: Any, at: Any, n: Any, zero: Any) -> Any:
    nothing, total = lanes.of(0), lanes.variable(lanes.of(0))
    with lanes.steps(n, lanes.count) as (j, _):
        found = lanes.load(x, lanes.builder.add(at, j))
        lanes.builder.store(lanes.add(lanes.builder.load(total), lanes.mul(found, nothing)), total)
    return lanes.sum(lanes.builder.load(total))


def _write_dot(lanes: Lanes, x: Any, at: Any, n: Any, y: Any, y_at: Any) -> Any:
    total = lanes.variable(lanes.of(0))
    with lanes.steps(n, lanes.count) as (j, _):
        a, b = lanes.load(x, lanes.builder.add(at, j)), lanes.load(y, lanes.builder.add(y_at, j))
        lanes.builder.store(lanes.fma(a, b, lanes.builder.load(total)), total)
    return lanes.sum(lanes.builder.load(total))


exp_row = _row(2, _write_exp)  # x = e^(x - base); returns the sum
top_row = _row(2, _write_top)  # the largest element, or `least`; NaN does not count
scale_row = _row(2, _write_scale)  # x = factor x
sum_row = _row(2, _write_sum)  # start plus the sum
finite_row = _row(2, _write_finite)  # 0 if all are finite, else NaN
dot_row = _row(3, _write_dot)  # the sum of products
