"""Between which numbers every node of a graph is, when its inputs are in given ranges.

Two things are decided by that before anything runs: that no look-up leaves its array and no integer overflows or is
divided by 0; and which blocks of a mask hide or show all. Ends of a range are Python's numbers, or arrays, one element
for each block: what follows from them is exact for integers, and for real numbers holds for float64, as the compiled
functions compute what becomes an integer, and masks.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastattn.jit.graph import Node, ancestors
from fastattn.jit.operations import OPERATIONS

__all__ = ["Range", "Ranges", "Unsafe"]

_CLOSE = 1e-13  # more than the error of a function of `fastattn.jit.mathematics`
_WAVE = 1 + _CLOSE


class Range(NamedTuple):
    """The least and the most of what something may be, of a bool 0 and 1; and whether it may be NaN besides."""

    low: Any
    high: Any
    nan: Any = False


class Unsafe(Exception):
    """Why a graph must not be run: the node, and the range that breaks it."""

    def __init__(self, node: Node, found: Range, limit: int) -> None:
        super().__init__(node, found, limit)
        self.node = node
        self.found = found
        self.limit = limit


def _least(*numbers: Any) -> Any:
    if any(isinstance(x, np.ndarray) for x in numbers):
        return _combined(np.minimum, -math.inf, numbers)
    return -math.inf if any(x != x for x in numbers) else min(numbers)


def _most(*numbers: Any) -> Any:
    if any(isinstance(x, np.ndarray) for x in numbers):
        return _combined(np.maximum, math.inf, numbers)
    return math.inf if any(x != x for x in numbers) else max(numbers)


def _combined(function: Callable[..., Any], unknown: float, numbers: tuple[Any, ...]) -> Any:
    found = numbers[0]
    for one in numbers[1:]:
        found = function(found, one)
    found = np.asarray(found)
    return np.where(np.isnan(found), unknown, found) if found.dtype.kind == "f" else found


def _where(condition: Any, this: Any, that: Any) -> Any:
    if isinstance(condition, np.ndarray) or isinstance(this, np.ndarray) or isinstance(that, np.ndarray):
        return np.where(condition, this, that)
    return this if condition else that


def _bools(certain: Any, possible: Any) -> Range:
    """Return the range of a bool that is surely true, and that may be true."""
    if isinstance(certain, np.ndarray) or isinstance(possible, np.ndarray):
        return Range(np.asarray(certain).astype(np.int64), np.asarray(possible).astype(np.int64))
    return Range(int(certain), int(possible))


def _both(a: Any, b: Any) -> Any:
    return np.logical_and(a, b) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else a and b


def _less(x: Range, y: Range, equal: bool) -> Range:
    certain = x.high <= y.low if equal else x.high < y.low
    possible = x.low <= y.high if equal else x.low < y.high
    return _bools(_both(certain, np.logical_not(np.logical_or(x.nan, y.nan))), possible)


def _equal(x: Range, y: Range) -> Range:
    one = _both(x.low == x.high, y.low == y.high)
    certain = _both(_both(one, x.low == y.low), np.logical_not(np.logical_or(x.nan, y.nan)))
    return _bools(certain, _both(x.low <= y.high, y.low <= x.high))


def _product(x: Range, y: Range) -> Range:
    ends = [a * b for a in x[:2] for b in y[:2]]
    return Range(_least(*ends), _most(*ends))


def _sum(x: Range, y: Range) -> Range:
    low, high = x.low + y.low, x.high + y.high
    return Range(_least(low, low), _most(high, high))


def _negative(x: Range) -> Range:
    return Range(-x.high, -x.low)


def _absolute(x: Range) -> Range:
    return Range(_most(x.low, -x.high, 0), _most(-x.low, x.high))


def _has_zero(x: Range) -> Any:
    return _both(x.low <= 0, x.high >= 0)


def _quotient(x: Range, y: Range) -> Range:
    zero = _has_zero(y)
    if not isinstance(zero, np.ndarray) and not any(isinstance(end, np.ndarray) for end in x[:2]):
        if zero:
            return Range(-math.inf, math.inf)
        ends = [a / b for a in x[:2] for b in y[:2]]
        return Range(_least(*ends), _most(*ends))
    safe = Range(np.where(zero, 1.0, y.low), np.where(zero, 1.0, y.high))
    ends = [np.asarray(a) / b for a in x[:2] for b in safe[:2]]
    return Range(np.where(zero, -math.inf, _least(*ends)), np.where(zero, math.inf, _most(*ends)))


def _floor_quotient(x: Range, y: Range) -> Range:
    ends = [a // b for a in x[:2] for b in y[:2]]
    return Range(_least(*ends), _most(*ends))


def _rest(x: Range, y: Range) -> Range:
    """Return the range of x mod y, for a y that is not 0."""
    low = _least(0, y.low + 1)
    high = _most(0, y.high - 1)
    one = _both(y.low == y.high, x.low // y.low == x.high // y.low)
    return Range(_where(one, x.low % y.low, low), _where(one, x.high % y.low, high))


def _bits(x: Range, y: Range) -> Range:
    """Return the range of what any operation on bits makes of x and y: their sizes added, below 0 if one is."""
    most = _absolute(x).high + _absolute(y).high
    positive = _both(x.low >= 0, y.low >= 0)
    return Range(_where(positive, 0, -most), most)


def _common_bits(x: Range, y: Range) -> Range:
    """Return the range of x and y: what is not below 0 bounds it, whatever the other is."""
    low, high = _bits(x, y)[:2]
    for one in (x, y):
        low, high = _where(one.low >= 0, 0, low), _where(one.low >= 0, _least(one.high, high), high)
    return Range(low, high)


def _rising(function: Callable[[Any], Any], x: Range) -> Range:
    """Return the range of a function that rises, a little wider; outside of where it is defined it is anything."""
    low, high = function(np.asarray(x.low, np.float64)), function(np.asarray(x.high, np.float64))
    unknown = np.isnan(low) | np.isnan(high)
    low = np.where(unknown, -math.inf, low - abs(low) * _CLOSE)
    high = np.where(unknown, math.inf, high + abs(high) * _CLOSE)
    low, high = np.where(np.isnan(low), -math.inf, low), np.where(np.isnan(high), math.inf, high)
    return Range(low[()], high[()]) if low.ndim or high.ndim else Range(float(low), float(high))


def _wave(x: Range) -> Range:
    if isinstance(x.low, np.ndarray) or isinstance(x.high, np.ndarray):
        finite = np.isfinite(x.low) & np.isfinite(x.high)
        return Range(np.where(finite, -_WAVE, -math.inf), np.where(finite, _WAVE, math.inf))
    finite = math.isfinite(x.low) and math.isfinite(x.high)
    return Range(-_WAVE, _WAVE) if finite else Range(-math.inf, math.inf)


def _anything(*given: Range) -> Range:
    return Range(-math.inf, math.inf, True)


def _infinite(x: Range) -> Any:
    return np.logical_or(np.isinf(x.low), np.isinf(x.high))


def _fails(operation: str, given: list[Range]) -> Any:
    """Whether real numbers in these ranges may make NaN."""
    x, y = given[0], given[-1]
    if operation in ("add", "sub"):
        return np.logical_and(_infinite(x), _infinite(y))
    if operation == "mul":
        return np.logical_or(np.logical_and(_has_zero(x), _infinite(y)), np.logical_and(_has_zero(y), _infinite(x)))
    if operation == "div":
        return np.logical_or(np.logical_and(_has_zero(x), _has_zero(y)), np.logical_and(_infinite(x), _infinite(y)))
    if operation in ("sqrt", "log", "log1p"):
        return np.less(x.low, -1 if operation == "log1p" else 0)
    return _infinite(x) if operation in ("sin", "cos") else operation == "power"


def _real(x: Range) -> Range:
    if any(isinstance(end, np.ndarray) for end in x[:2]):
        return Range(np.asarray(x.low, np.float64), np.asarray(x.high, np.float64))
    return Range(float(x.low), float(x.high))


def _integers(x: Range) -> Range:
    low, high = (OPERATIONS["index"].function(end) for end in x[:2])
    low = np.where(x.nan, -(2**62), low)
    return Range(low, np.asarray(high)) if low.ndim else Range(int(low), int(high))


def _chosen(condition: Range, x: Range, y: Range) -> Range:
    low = _where(condition.low == 1, x.low, _where(condition.high == 0, y.low, _least(x.low, y.low)))
    high = _where(condition.low == 1, x.high, _where(condition.high == 0, y.high, _most(x.high, y.high)))
    return Range(low, high)


_RULES: dict[str, Callable[..., Range]] = {
    "add": _sum,
    "sub": lambda x, y: _sum(x, _negative(y)),
    "mul": _product,
    "neg": _negative,
    "abs": _absolute,
    "minimum": lambda x, y: Range(_least(x.low, y.low), _least(x.high, y.high)),
    "maximum": lambda x, y: Range(_most(x.low, y.low), _most(x.high, y.high)),
    "div": _quotient,
    "floordiv": _floor_quotient,
    "mod": _rest,
    "bit_and": _common_bits,
    "bit_or": _bits,
    "bit_xor": _bits,
    "less": partial(_less, equal=False),
    "less_equal": partial(_less, equal=True),
    "equal": _equal,
    "and": lambda x, y: Range(_least(x.low, y.low), _least(x.high, y.high)),
    "or": lambda x, y: Range(_most(x.low, y.low), _most(x.high, y.high)),
    "not": lambda x: Range(1 - x.high, 1 - x.low),
    "where": _chosen,
    "real": _real,
    "index": _integers,
    "sin": _wave,
    "cos": _wave,
    "power": _anything,
    "row_sum": _anything,
    "row_max": _anything,
    **{
        name: partial(_rising, OPERATIONS[name].function)
        for name in ("floor", "sqrt", "exp", "expm1", "log", "log1p", "tanh", "arctan", "erf")
    },
}


def _narrowed(condition: Node, holds: bool, found: Mapping[Node, Range]) -> dict[Node, Range]:
    """Return the ranges of integers that a condition compares, where it holds, or where it does not."""
    if condition.operation == "and" and holds:
        first, last = (_narrowed(one, True, found) for one in condition.arguments)
        return {**last, **first}
    if condition.operation not in ("less", "less_equal") or condition.arguments[0].kind != "i":
        return {}
    less, more = condition.arguments if holds else condition.arguments[::-1]
    apart = int((condition.operation == "less") == holds)
    low = Range(found[less].low, _least(found[less].high, found[more].high - apart))
    high = Range(_most(found[more].low, found[less].low + apart), found[more].high)
    return {node: one for node, one in ((less, low), (more, high)) if np.all(one.low <= one.high)}


class Ranges:
    """What is asked about a graph, for some inputs.

    Parameters
    ----------
    inputs : mapping of str to Range
        Those that are not named may be anything.
    sizes : callable
        ``sizes(parameter, axis)``, how long an axis is.
    element : callable
        ``element(parameter)``, the range of its elements.
    """

    def __init__(
        self,
        inputs: Mapping[str, Range],
        sizes: Callable[[int, int], int],
        element: Callable[[int], Range],
    ) -> None:
        self.inputs = inputs
        self.sizes = sizes
        self.element = element
        self._for_memory = False

    def of(self, result: Node, *, check: bool = False) -> dict[Node, Range]:
        """Return the range of each node that a result is made of.

        Raises
        ------
        Unsafe
            If that is checked, and a look-up may leave its array, a divisor be 0, or an integer overflow.
        """
        self._for_memory = check
        with np.errstate(all="ignore"):
            return self._walk(result, {}, check)

    def _walk(self, result: Node, known: Mapping[Node, Range], check: bool) -> dict[Node, Range]:
        found: dict[Node, Range] = {}
        for node in ancestors([result]):
            given = [found[argument] for argument in node.arguments]
            if check:
                self._check(node, given)
            if node in known:
                found[node] = known[node]
            elif node.operation == "where" and node.kind != "b":
                found[node] = self._choice(node, found, known)
            elif self._for_memory and node.kind == "b" and any(one.kind == "f" for one in node.arguments):
                found[node] = Range(0, 1)  # float32 may compare otherwise
            elif node.operation in _RULES:
                one = _RULES[node.operation](*given)
                if node.kind == "f":
                    fails = [_fails(node.operation, given), *(other.nan for other in given)]
                    one = one._replace(nan=np.logical_or.reduce(np.broadcast_arrays(*fails)))
                found[node] = one
            else:
                found[node] = self._leaf(node)
            if check and node.kind == "i" and not -(2**63) <= found[node].low <= found[node].high < 2**63:
                raise Unsafe(node, found[node], 2**63)
        return found

    def _leaf(self, node: Node) -> Range:
        if node.operation == "input":
            return self.inputs.get(node.value) or _anything()
        if node.operation == "look":
            return self.element(node.value)
        value = self.sizes(*node.value) if node.operation == "size" else node.value
        if value != value:
            return _anything()
        value = int(value) if node.kind == "b" else value
        return Range(value, value)

    def _choice(self, node: Node, found: Mapping[Node, Range], known: Mapping[Node, Range]) -> Range:
        """Return the range of a choice: each side is taken only where the condition says so."""
        condition, *sides = node.arguments
        ends = []
        for side, holds in zip(sides, (True, False)):
            narrowed = _narrowed(condition, holds, found)
            ends.append(self._walk(side, {**known, **narrowed}, False)[side] if narrowed else found[side])
        return _chosen(found[condition], *ends)._replace(nan=np.logical_or(ends[0].nan, ends[1].nan))

    def _check(self, node: Node, given: list[Range]) -> None:
        """Raise unless a look-up stays in its array, also where it is not chosen, and a divisor is not 0."""
        if node.operation == "look":
            for axis, index in enumerate(given):
                limit = self.sizes(node.value, axis)
                if index.low < 0 or index.high >= limit:
                    raise Unsafe(node, index, limit)
        elif node.operation in ("floordiv", "mod") and _has_zero(given[1]):
            raise Unsafe(node, given[1], 0)
