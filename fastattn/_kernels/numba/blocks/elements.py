"""Functions of one number for kernels, in the number's own type, whose loops Numba's compiler vectorises.

In a kernel a constant is float64, and makes float64 of what it meets: `like(x, 0.5)` is one of the type of x.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types

from fastattn._kernels.numba.blocks.lanes import Lanes, number_type, written

__all__ = [
    "choose",
    "exp",
    "exp_parts",
    "exp_soft",
    "fma",
    "fma_once",
    "key_hash",
    "like",
    "root",
    "row_key",
    "sigmoid",
    "tanh",
]


def _unary(write: Any) -> Any:
    def typed(context: Any, x: Any) -> Any:
        kind = number_type(x)

        def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
            return write(Lanes(builder, kind, 1), *values)

        return (kind(kind), generate) if kind else None

    return written(typed)


def _ternary(write: Any) -> Any:
    def typed(context: Any, a: Any, b: Any, c: Any) -> Any:
        kind = number_type(a, b, c)

        def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
            return write(Lanes(builder, kind, 1), *values)

        return (kind(kind, kind, kind), generate) if kind else None

    return written(typed)


exp = _unary(Lanes.exp)
exp_soft = _unary(Lanes.exp_soft)
tanh = _unary(Lanes.tanh)
sigmoid = _unary(Lanes.sigmoid)
root = _unary(Lanes.sqrt)
fma = _ternary(Lanes.fma)
fma_once = _ternary(Lanes.fma_once)


@written
def exp_parts(context: Any, x: Any) -> Any:
    """(e^r - 1, 2^n) of e^x = 2^n e^r."""
    kind = number_type(x)
    if kind is None:
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return context.make_tuple(builder, signature.return_type, Lanes(builder, kind, 1).exp_parts(values[0]))

    return types.UniTuple(kind, 2)(kind), generate


@written
def like(context: Any, x: Any, value: Any) -> Any:
    """A number in the type of x."""
    kind = number_type(x)
    if kind is None or not isinstance(value, types.Number | types.Boolean | types.Literal):
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        return context.cast(builder, values[1], signature.args[1], kind)

    return kind(kind, value), generate


def _mix64(builder: Any, x: Any) -> Any:
    """The finaliser of splitmix64 (csrc/dropout.h)."""
    word = ir.IntType(64)
    x = builder.add(x, ir.Constant(word, 0x9E3779B97F4A7C15))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x = builder.xor(x, builder.lshr(x, ir.Constant(word, shift)))
        x = builder.mul(x, ir.Constant(word, factor))
    return builder.xor(x, builder.lshr(x, ir.Constant(word, 31)))


@written
def row_key(context: Any, seed: Any, head: Any, row: Any) -> Any:
    """The 64 bits of a row of dropout's hash."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        word = ir.IntType(64)
        seed, head, row = values
        after = builder.add(head, ir.Constant(word, 1))
        of_head = builder.add(seed, builder.mul(after, ir.Constant(word, 0x632BE59BD9B4E019)))
        return _mix64(builder, builder.add(_mix64(builder, of_head), row))

    return types.uint64(types.uint64, types.int64, types.int64), generate


@written
def key_hash(context: Any, row: Any, key: Any) -> Any:
    """The 32 bits of one key in a row of `row_key`, as an int64."""

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        half = ir.IntType(32)

        def mixed(x: Any, shift: int, factor: int) -> Any:
            return builder.mul(builder.xor(x, builder.lshr(x, ir.Constant(half, shift))), ir.Constant(half, factor))

        low = builder.trunc(values[0], half)
        high = builder.trunc(builder.lshr(values[0], ir.Constant(ir.IntType(64), 32)), half)
        u = mixed(builder.xor(builder.trunc(values[1], half), low), 16, 0x7FEB352D)
        u = mixed(builder.add(u, high), 15, 0x846CA68B)
        u = builder.xor(u, builder.lshr(u, ir.Constant(half, 16)))
        return builder.zext(u, ir.IntType(64))

    return types.int64(types.uint64, types.int64), generate


@written
def choose(context: Any, x: Any, single: Any, double: Any) -> Any:
    """A number in the type of x: the first for float32, the second for float64."""
    kind = number_type(x)
    if kind is None:
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> Any:
        number = 1 if kind == types.float32 else 2
        return context.cast(builder, values[number], signature.args[number], kind)

    return kind(kind, single, double), generate
