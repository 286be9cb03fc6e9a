"""What compiled functions are written with, beyond Numba's own: choices, bits, pointers and buffers.

Importing this imports Numba. A buffer is memory that nothing else points to, so that a loop which writes one and reads
parameters can be vectorised; an address as an integer becomes a pointer; a choice is one instruction and no branch.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "apart",
    "buffer_byte",
    "buffer_integer32",
    "buffer_integer64",
    "buffer_real32",
    "buffer_real64",
    "byte",
    "bytes8",
    "floor",
    "fma",
    "inlined",
    "integer32",
    "integer64",
    "integer_bits32",
    "integer_bits64",
    "integers64",
    "real32",
    "real64",
    "real_bits32",
    "real_bits64",
    "reals32",
    "reals64",
    "row_max",
    "row_sum",
    "select",
    "sqrt",
    "sum_real32",
    "sum_real64",
    "wide_vectors",
]

byte, integer32, integer64, real32, real64 = np.uint8, np.int32, np.int64, np.float32, np.float64
_LENGTH = 64


_inlined: dict[Any, Any] = {}


def inlined(function: Any) -> Any:
    """Compile a function into those that call it; equal ones are one, which is compiled once for all."""
    code = function.__code__
    key = (code.co_name, code.co_code, code.co_consts, code.co_names)
    if key not in _inlined:
        _inlined[key] = njit(error_model="numpy", forceinline=True)(function)
    return _inlined[key]


def _select(context: Any, condition: Any, this: Any, that: Any) -> Any:
    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(*values)

    this, that = types.unliteral(this), types.unliteral(that)
    return (this(types.boolean, this, that), code) if this == that else None


def _bits(name: str, given: Any, found: Any) -> Any:
    def typed(context: Any, x: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.bitcast(values[0], context.get_value_type(found))

        return found(given), code

    typed.__name__ = name
    return intrinsic(typed)


def _function(name: str) -> Any:
    def typed(context: Any, x: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind = values[0].type
            return builder.call(builder.module.declare_intrinsic(f"llvm.{name}", [kind]), values)

        return x(x), code

    typed.__name__ = name
    return intrinsic(typed)


def _fma(context: Any, x: Any, y: Any, z: Any) -> Any:
    """x y + z, rounded once: the same on every processor, and fast where it is an instruction."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fma(*values)

    return (x(x, x, x), code) if x == y == z else None


def _wide_vectors(context: Any) -> Any:
    """Let the function that calls it have vectors of 512 bits, as the kernels around it do."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), code


def _apart(context: Any) -> Any:
    """Say of the function that calls it that none of its arguments point at the same memory."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        for argument in builder.function.args[2:]:  # after what Numba's own convention passes
            if isinstance(argument.type, ir.PointerType):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), code


def _pointer(name: str, element: Any) -> Any:
    def typed(context: Any, address: Any) -> Any:
        pointer = types.CPointer(element)

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.inttoptr(values[0], context.get_value_type(pointer))

        return pointer(types.int64), code

    typed.__name__ = name
    return intrinsic(typed)


def _buffer(name: str, element: Any) -> Any:
    def typed(context: Any) -> Any:
        pointer = types.CPointer(element)

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            room = ir.Constant(ir.IntType(64), _LENGTH)
            found = cgutils.alloca_once(builder, context.get_data_type(element), size=room)
            found.align = 64  # a whole vector
            return found

        return pointer(), code

    typed.__name__ = name
    return intrinsic(typed)


def _sum(name: str, element: Any) -> Any:
    """Return the sum of a whole buffer, as float64: halves are added until one number is left."""

    def typed(context: Any, buffer: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            whole = ir.VectorType(context.get_data_type(element), _LENGTH)
            found = builder.load(builder.bitcast(values[0], whole.as_pointer()), align=64)
            if element == types.float32:
                found = builder.fpext(found, ir.VectorType(ir.DoubleType(), _LENGTH))
            n = _LENGTH
            while n > 1:
                n //= 2
                halves = [
                    builder.shuffle_vector(found, found, ir.Constant(ir.VectorType(ir.IntType(32), n), [*lanes]))
                    for lanes in (range(n), range(n, 2 * n))
                ]
                found = builder.fadd(*halves)
            return builder.extract_element(found, ir.Constant(ir.IntType(32), 0))

        return types.float64(buffer), code

    typed.__name__ = name
    return intrinsic(typed)


select: Any = intrinsic(_select)
integer_bits32 = _bits("integer_bits32", types.float32, types.int32)
integer_bits64 = _bits("integer_bits64", types.float64, types.int64)
real_bits32 = _bits("real_bits32", types.int32, types.float32)
real_bits64 = _bits("real_bits64", types.int64, types.float64)
fma, wide_vectors, apart = intrinsic(_fma), intrinsic(_wide_vectors), intrinsic(_apart)
floor, sqrt = _function("floor"), _function("sqrt")
bytes8 = _pointer("bytes8", types.uint8)
integers64 = _pointer("integers64", types.int64)
reals32, reals64 = _pointer("reals32", types.float32), _pointer("reals64", types.float64)
buffer_byte = _buffer("buffer_byte", types.uint8)
buffer_integer32 = _buffer("buffer_integer32", types.int32)
buffer_integer64 = _buffer("buffer_integer64", types.int64)
sum_real32, sum_real64 = _sum("sum_real32", types.float32), _sum("sum_real64", types.float64)
buffer_real32, buffer_real64 = _buffer("buffer_real32", types.float32), _buffer("buffer_real64", types.float64)


@inlined
def row_sum(a: Any) -> Any:
    """Return the sum of 64 numbers, by halves."""
    for t in range(32):
        a[t] = a[t] + a[t + 32]
    for t in range(16):
        a[t] = a[t] + a[t + 16]
    for t in range(8):
        a[t] = a[t] + a[t + 8]
    for t in range(4):
        a[t] = a[t] + a[t + 4]
    return (a[0] + a[2]) + (a[1] + a[3])


@inlined
def larger(x: Any, y: Any) -> Any:
    """Return the larger number, or NaN if one of them is."""
    return select(x > y, x, select(x == x, y, x))


@inlined
def row_max(a: Any) -> Any:
    """Return the largest of 64 numbers, or NaN if one of them is."""
    for t in range(32):
        a[t] = larger(a[t], a[t + 32])
    for t in range(16):
        a[t] = larger(a[t], a[t + 16])
    for t in range(8):
        a[t] = larger(a[t], a[t + 8])
    for t in range(4):
        a[t] = larger(a[t], a[t + 4])
    return larger(larger(a[0], a[2]), larger(a[1], a[3]))
