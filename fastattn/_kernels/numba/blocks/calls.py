"""Calls of functions of users, at the addresses that a call of attention was given (csrc/kernels.h says what they do).

What a kernel needs to know of them is an array of integers, `calls`, which is empty where there are none.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from fastattn._kernels.numba.blocks.compiled import inlined
from fastattn._kernels.numba.blocks.elements import like
from fastattn._kernels.numba.blocks.lanes import place, written

__all__ = [
    "ALLOW", "ALLOW_PARAMETERS", "BATCH", "BLOCK", "COLUMNS", "HEAD", "MODIFY", "MODIFY_BACKWARD", "MODIFY_PARAMETERS",
    "MODIFY_SLOPED", "NUMBERS", "PAIRS", "PAIRS_BACKWARD", "PAIRS_PARAMETERS", "SUMS", "allow_row", "modify_row",
    "modify_row_backward", "modify_row_sloped", "pairs_backward", "pairs_tile",
]  # fmt: skip

# The integers: addresses of functions and of their parameters, 0 where there are none; how many rows of blocks a batch
# entry, a head and a row have; how many pointers to sums the modifier has; and the address of one with slopes.
MODIFY, MODIFY_BACKWARD, MODIFY_PARAMETERS, PAIRS, PAIRS_BACKWARD, PAIRS_PARAMETERS = range(6)
ALLOW, ALLOW_PARAMETERS, BATCH, HEAD, COLUMNS, SUMS, MODIFY_SLOPED = range(6, 13)
NUMBERS = 13
BLOCK = 64


def _caller(count: int) -> Any:
    """Make a call of the function at an address with so many integers, of which those that are addresses are pointers
    to what is called: both are handed over alike."""
    word = ir.IntType(64)

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [word] * count)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * (count + 1)), generate


@written
def _call_7(context: Any, f: Any, x: Any, n: Any, b: Any, h: Any, i: Any, j: Any, parameters: Any) -> Any:
    return _caller(7)


@written
def _call_8(context: Any, f: Any, x: Any, y: Any, n: Any, b: Any, h: Any, i: Any, j: Any, parameters: Any) -> Any:
    return _caller(8)


@written
def _call_9(
    context: Any, f: Any, x: Any, d: Any, n: Any, b: Any, h: Any, i: Any, j: Any, parameters: Any, sums: Any
) -> Any:  # fmt: skip
    return _caller(9)


@written
def _call_10(
    context: Any, f: Any, q: Any, ldq: Any, rows: Any, panel: Any, width: Any, n: Any, depth: Any, s: Any, lds: Any,
    parameters: Any,
) -> Any:  # fmt: skip
    return _caller(10)


@written
def _call_12(
    context: Any, f: Any, g: Any, ldg: Any, q: Any, k: Any, ld: Any, rows: Any, keys: Any, depth: Any, dq: Any, dk: Any,
    parameters: Any, sums: Any,
) -> Any:  # fmt: skip
    return _caller(12)


@inlined
def modify_row(calls, s, at, n, b, h, i, first):
    """The scores of n keys from key `first` of a row, which begin at s[at], as a modifier makes them."""
    _call_7(calls[MODIFY], place(s, at), n, b, h, i, first, calls[MODIFY_PARAMETERS])


@inlined
def modify_row_sloped(calls, s, at, slopes, slopes_at, n, b, h, i, first):
    """As `modify_row`, and the slope at each score."""
    _call_8(
        calls[MODIFY_SLOPED], place(s, at), place(slopes, slopes_at), n, b, h, i, first, calls[MODIFY_PARAMETERS]
    )  # fmt: skip


@inlined
def modify_row_backward(calls, before, before_at, d, at, n, b, h, i, first, sums, sums_at):
    """d of modified scores becomes that of those before; sums: addresses of sums for parameters, from sums_at on."""
    _call_9(
        calls[MODIFY_BACKWARD], place(before, before_at), place(d, at), n, b, h, i, first, calls[MODIFY_PARAMETERS],
        place(sums, sums_at),
    )  # fmt: skip


@inlined
def allow_row(calls, blocks, s, at, n, b, h, i, first):
    """What a mask function does not allow becomes -inf."""
    states = (b * calls[BATCH] + h * calls[HEAD] + i // BLOCK) * calls[COLUMNS]
    allowed = np.zeros(BLOCK, np.uint8)
    row = s[at : at + n]
    j = 0
    while j < n:
        block = (first + j) // BLOCK
        stop = min((block + 1) * BLOCK - first, n)
        state = blocks[states + block]
        if state == 2:
            _call_7(calls[ALLOW], place(allowed, 0), stop - j, b, h, i, first + j, calls[ALLOW_PARAMETERS])
        if state != 1:
            for t in range(stop - j):
                row[j + t] = row[j + t] if state == 2 and allowed[t] != 0 else like(row[0], -np.inf)
        j = stop


@inlined
def pairs_tile(calls, rows, q, q0, q_row, panels, panel, width, n, depth, s, s0, s_row):
    """Scores of some queries and the n keys of a panel by a function of pairs."""
    _call_10(
        calls[PAIRS], place(q, q0), q_row, rows, place(panels, panel), width, n, depth, place(s, s0), s_row,
        calls[PAIRS_PARAMETERS],
    )  # fmt: skip


@inlined
def pairs_backward(calls, rows, keys, g, g0, g_row, q, q0, k, k0, size, depth, dq, dq0, dk, dk0, sums, sums_at):
    """Their gradients, times g, added to dq and dk."""
    _call_12(
        calls[PAIRS_BACKWARD], place(g, g0), g_row, place(q, q0), place(k, k0), size, rows, keys, depth,
        place(dq, dq0), place(dk, dk0), calls[PAIRS_PARAMETERS], place(sums, sums_at + calls[SUMS]),
    )  # fmt: skip
