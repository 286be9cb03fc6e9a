"""Vectors of 64 bytes in the code that kernels become: multiply-adds, exponentials and loops over them.

Numba's own loops are vectorised or not, and contracted or not, as its compiler likes, which may differ between the body
of a loop and its end. What is written here is one instruction after the other, the same for every element, on every
processor that has a fused multiply-add; where there is none, it is a product and a sum.

exp(x) = 2^n e^r, n = round(x log2 e), r = x - n ln 2 in two steps, e^r = 1 + r (1 + r g(r)): the polynomials of the C
kernels (csrc/vec/math.h).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

__all__ = ["LANES", "REGISTER", "SQUARE", "WIDE", "Lanes", "address", "lanes_of", "number_type", "place", "written"]

BYTES = 64
LANES = {"f": BYTES // 4, "d": BYTES // 8}  # by the letter of an element type
_FEATURES = llvm.get_host_cpu_features()
_NATIVE = llvm.get_process_triple()
_FMA = bool(_FEATURES.get("fma")) or _NATIVE.startswith(("aarch64", "arm64"))
WIDE = bool(_FEATURES.get("avx512f"))  # 32 registers of 64 bytes
REGISTER = BYTES if WIDE else 32 if _FEATURES.get("avx2") else 16
SQUARE = {types.float32: REGISTER // 4, types.float64: REGISTER // 8}  # rows of a square that is turned in registers

_SINGLE = {
    "log2e": 1.44269504088896341, "ln2_hi": 0.693359375, "ln2_lo": -2.1219444005469058277e-4, "soft": -87.33654,
    "least": -104.5, "most": 88.8, "tanh": 10.0, "magic": 1.5 * 2**23, "mantissa": 23, "offset": 127,
    "g": (
        0.0013926183587713494542, 0.0083631790527225773704, 0.041666554617204574203, 0.16666576669698775683, 0.5, 1.0,
    ),
}  # fmt: skip
_DOUBLE = {
    "log2e": 1.44269504088896340736, "ln2_hi": 0.6931471803691238, "ln2_lo": 1.908214929270587816144e-10,
    "soft": -708.3964185322641, "least": -746.0, "most": 709.9, "tanh": 20.0, "magic": 1.5 * 2**52, "mantissa": 52,
    "offset": 1023,
    "g": (
        2.0914686968086877233e-9, 2.5105217004720745164e-8, 2.7557273643110295328e-7, 2.755725540020642443e-6,
        0.000024801587325547741216, 0.00019841269874820625271, 0.0013888888888883748305, 0.0083333333333261351258,
        0.041666666666666669755, 0.16666666666666670991, 0.5, 1.0,
    ),
}  # fmt: skip


class Lanes:
    """Writes operations on numbers of one type, or on vectors of it."""

    def __init__(self, builder: Any, real: Any, count: int | None = None) -> None:
        single = real == types.float32
        self.builder = builder
        self.facts: dict[str, Any] = _SINGLE if single else _DOUBLE
        self.count = (BYTES // 4 if single else BYTES // 8) if count is None else count
        self.number = ir.FloatType() if single else ir.DoubleType()
        self.integer = ir.IntType(32 if single else 64)
        self.item = 4 if single else 8
        self.type = self.number if self.count == 1 else ir.VectorType(self.number, self.count)
        self.bits = self.integer if self.count == 1 else ir.VectorType(self.integer, self.count)

    # Numbers.

    def of(self, value: float) -> Any:
        """A constant in all lanes."""
        return ir.Constant(self.type, value if self.count == 1 else [value] * self.count)

    def of_int(self, value: int) -> Any:
        return ir.Constant(self.bits, value if self.count == 1 else [value] * self.count)

    def spread(self, number: Any) -> Any:
        """One number in all lanes."""
        if self.count == 1:
            return number
        empty = ir.Constant(self.type, ir.Undefined)
        first = self.builder.insert_element(empty, number, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.count), [0] * self.count)
        return self.builder.shuffle_vector(first, empty, zeros)

    def _at(self, address: Any, index: Any, kind: Any) -> Any:
        byte = self.builder.add(address, self.builder.mul(index, ir.Constant(ir.IntType(64), self.item)))
        return self.builder.inttoptr(byte, ir.PointerType(kind))

    def load(self, address: Any, index: Any) -> Any:
        """The vector that begins with element `index`."""
        return self.builder.load(self._at(address, index, self.type), align=self.item)

    def load_one(self, address: Any, index: Any) -> Any:
        """One element in all lanes."""
        return self.spread(self.builder.load(self._at(address, index, self.number), align=self.item))

    def ask(self, address: Any, index: Any) -> None:
        """Have the cache line of an element come from memory, if there is such an element."""
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        signature = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(self.builder.module, signature, "llvm.prefetch.p0")
        three = [ir.Constant(number, n) for n in (0, 3, 1)]  # to be read, into the first level, data
        self.builder.call(function, [self._at(address, index, ir.IntType(8)), *three])

    def store(self, value: Any, address: Any, index: Any) -> None:
        self.builder.store(value, self._at(address, index, self.type), align=self.item)

    def add(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b)

    def sub(self, a: Any, b: Any) -> Any:
        return self.builder.fsub(a, b)

    def mul(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b)

    def div(self, a: Any, b: Any) -> Any:
        return self.builder.fdiv(a, b)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c, rounded once where the processor can."""
        if not _FMA:
            return self.add(self.mul(a, b), c)
        return self._named("llvm.fma", a, b, c)

    def fma_once(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c, rounded once."""
        return self._named("llvm.fma", a, b, c)

    def sqrt(self, a: Any) -> Any:
        return self._named("llvm.sqrt", a)

    def _named(self, name: str, *operands: Any) -> Any:
        form = f"f{8 * self.item}" if self.count == 1 else f"v{self.count}f{8 * self.item}"
        signature = ir.FunctionType(self.type, [self.type] * len(operands))
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"{name}.{form}")
        return self.builder.call(function, operands)

    def max(self, a: Any, b: Any) -> Any:
        """The larger one, b where one is NaN."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def min(self, a: Any, b: Any) -> Any:
        """The smaller one, b where one is NaN."""
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), a, b)

    def where_less(self, a: Any, b: Any, yes: Any, no: Any) -> Any:
        return self.builder.select(self.builder.fcmp_ordered("<", a, b), yes, no)

    def exchanged(self, a: Any, b: Any, step: int) -> tuple[Any, Any]:
        """Both with every second run of `step` lanes of a in the place of the run before it in b."""
        lanes, half = range(self.count), ir.IntType(32)
        masks = (
            [i if not i & step else self.count + i - step for i in lanes],
            [i + step if not i & step else self.count + i for i in lanes],
        )
        kind = ir.VectorType(half, self.count)
        first, second = (self.builder.shuffle_vector(a, b, ir.Constant(kind, mask)) for mask in masks)
        return first, second

    def size(self, a: Any) -> Any:
        """Without its sign."""
        word = self.builder.bitcast(a, self.bits)
        all_but_sign = self.of_int((1 << (8 * self.item - 1)) - 1)
        return self.builder.bitcast(self.builder.and_(word, all_but_sign), self.type)

    def _fold(self, value: Any, join: Callable[[Any, Any], Any]) -> Any:
        one = Lanes(self.builder, types.float32 if self.item == 4 else types.float64, 1)
        parts = [self.builder.extract_element(value, ir.Constant(ir.IntType(32), i)) for i in range(self.count)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [join(one, (parts[i], parts[i + half])) for i in range(half)]
        return parts[0]

    def sum(self, value: Any) -> Any:
        """The sum of all lanes: halves, then halves of these."""
        return self._fold(value, lambda one, pair: one.add(*pair))

    def top(self, value: Any) -> Any:
        """The largest lane."""
        return self._fold(value, lambda one, pair: one.max(*pair))

    # Functions.

    def power(self, shifted: Any) -> Any:
        """2^n from n plus the number that rounds, as `_reduced` leaves it; |n| is within the exponents."""
        word = self.builder.bitcast(shifted, self.bits)
        word = self.builder.add(word, self.of_int(self.facts["offset"]))
        return self.builder.bitcast(self.builder.shl(word, self.of_int(self.facts["mantissa"])), self.type)

    def _reduced(self, x: Any) -> tuple[Any, Any, Any, Any]:
        """n and the same shifted, r, and h of e^r = 1 + r h."""
        magic = self.of(self.facts["magic"])
        shifted = self.fma(x, self.of(self.facts["log2e"]), magic)
        n = self.sub(shifted, magic)
        r = self.fma(n, self.of(-self.facts["ln2_hi"]), x)
        r = self.fma(n, self.of(-self.facts["ln2_lo"]), r)
        first, *others = self.facts["g"]
        h = self.of(first)
        for coefficient in others:
            h = self.fma(h, r, self.of(coefficient))
        return n, shifted, r, h

    def exp_parts(self, x: Any) -> tuple[Any, Any]:
        """e^r - 1 and 2^n of e^x = 2^n e^r, for results that are normal numbers."""
        _, shifted, r, h = self._reduced(x)
        return self.mul(h, r), self.power(shifted)

    def exp_soft(self, x: Any) -> Any:
        """e^x for x up to 88 (float64: 709), 0 where it is below the smallest normal number."""
        _, shifted, r, h = self._reduced(x)
        found = self.mul(self.fma(h, r, self.of(1)), self.power(shifted))
        return self.where_less(x, self.of(self.facts["soft"]), self.of(0), found)

    def exp(self, x: Any) -> Any:
        """e^x, infinite and subnormal results included."""
        x = self.min(self.of(self.facts["most"]), self.max(self.of(self.facts["least"]), x))
        n, _, r, h = self._reduced(x)
        magic = self.of(self.facts["magic"])
        half_shifted = self.fma(n, self.of(0.5), magic)
        half = self.sub(half_shifted, magic)
        other = self.add(self.sub(n, half), magic)
        found = self.mul(self.fma(h, r, self.of(1)), self.power(other))
        return self.mul(self.power(half_shifted), found)

    def tanh(self, x: Any) -> Any:
        """m / (m + 2), m = e^(2x) - 1, which has no cancellation."""
        bound = self.facts["tanh"]
        c = self.min(self.of(bound), self.max(self.of(-bound), x))
        q, power = self.exp_parts(self.add(c, c))
        m = self.fma(power, q, self.sub(power, self.of(1)))
        return self.div(m, self.add(m, self.of(2)))

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + e^-x)."""
        return self.div(self.of(1), self.add(self.of(1), self.exp(self.builder.fneg(x))))

    # Loops.

    def variable(self, value: Any) -> Any:
        """A place for a vector, in a register once the code is compiled."""
        place = cgutils.alloca_once(self.builder, value.type)
        self.builder.store(value, place)
        return place

    def steps(self, count: Any, step: int) -> AbstractContextManager[Any]:
        """A loop over 0, step, ... below count."""
        word = ir.IntType(64)
        start, size = ir.Constant(word, 0), ir.Constant(word, step)
        return cgutils.for_range_slice(self.builder, start, count, size, intp=word)


def address(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The address of an array's first element, as an integer."""
    data = arrayobj.make_array(kind)(context, builder, value).data
    return builder.ptrtoint(data, ir.IntType(64))


def written(function: Callable[..., Any]) -> Any:
    """Decorate what says the type of a function that kernels call, and writes its code."""
    return intrinsic(function)


@written
def place(context: Any, x: Any, at: Any) -> Any:
    """The address of an element."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        item = ir.Constant(ir.IntType(64), context.get_abi_sizeof(context.get_data_type(x.dtype)))
        return builder.add(address(context, builder, x, values[0]), builder.mul(values[1], item))

    return types.int64(x, types.int64), generate


def number_type(*given: Any) -> Any:
    """The Numba type of arguments that are numbers of one element type, or None."""
    fits = given[0] in (types.float32, types.float64) and all(one == given[0] for one in given)
    return given[0] if fits else None


def lanes_of(signature: Any, builder: Any) -> Lanes:
    """`Lanes` for the element type of the first array among the arguments."""
    real = next(kind.dtype for kind in signature.args if isinstance(kind, types.Array))
    return Lanes(builder, real)
