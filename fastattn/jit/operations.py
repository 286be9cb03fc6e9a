"""The operations of the graph: their kinds, what they compute in NumPy, and their text in the compiled code.

In a text ``{0}``, ``{1}`` and ``{2}`` are the arguments; what is called there is a function of
`fastattn.jit.mathematics`, with ``{bits}`` for the width of its type, or one of `fastattn.jit.lowering`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

__all__ = ["OPERATIONS", "Operation"]


class Kind(Protocol):
    """What has a kind: a node."""

    kind: str


class Operation(NamedTuple):
    """One operation.

    Attributes
    ----------
    takes : str
        "same": integers or reals, all of one kind; "f", "i", "b": arguments of that kind; "where": a bool and two of
        one kind; "any": of whatever kind.
    gives : str
        The kind of the result; "" is that of its last argument.
    function : callable
        In NumPy, or of Python's numbers.
    text : str
        In the compiled code.
    commutes : bool
    """

    takes: str
    gives: str
    function: Callable[..., Any]
    text: str
    commutes: bool = False

    def kind(self, arguments: Sequence[Kind]) -> str:
        """Return the kind of the result."""
        return self.gives or arguments[-1].kind


def _power(x: Any, y: Any) -> Any:
    return np.power(np.float64(x), np.float64(y))


def _quotient(x: Any, y: Any) -> Any:
    return np.true_divide(np.asarray(x, np.float64), np.asarray(y, np.float64))


def _truncated(x: Any) -> Any:
    """Return reals as integers, toward zero; NaN is the smallest, and what is out of range the nearest."""
    x = np.asarray(x)
    if x.dtype.kind != "f":
        return x.astype(np.int64)
    inside = np.clip(np.where(np.isnan(x), -(2.0**62), x), -(2.0**62), 2.0**62)
    return np.trunc(inside).astype(np.int64)


def _of_numpy(name: str) -> Callable[..., Any]:
    function = getattr(np, name)
    return lambda x: function(np.asarray(x, np.float64))


_erf = np.vectorize(math.erf, otypes=[np.float64])  # which NumPy has not


def _of_rows(function: Callable[..., Any], of_none: float) -> Callable[..., Any]:
    return lambda x: function(np.asarray(x, np.float64), axis=-1, keepdims=True, initial=of_none)


_SMALLER = "select({0} < {1}, {0}, select({0} == {0}, {1}, {0}))"  # NaN where either is
_LARGER = "select({0} > {1}, {0}, select({0} == {0}, {1}, {0}))"

OPERATIONS: dict[str, Operation] = {
    "add": Operation("same", "", lambda x, y: x + y, "{0} + {1}", True),
    "sub": Operation("same", "", lambda x, y: x - y, "{0} - {1}"),
    "mul": Operation("same", "", lambda x, y: x * y, "{0} * {1}", True),
    "neg": Operation("same", "", lambda x: -x, "-{0}"),
    "abs": Operation("same", "", abs, "abs({0})"),
    "minimum": Operation("same", "", np.minimum, _SMALLER),
    "maximum": Operation("same", "", np.maximum, _LARGER),
    "div": Operation("f", "f", _quotient, "{0} / {1}"),
    "floordiv": Operation("i", "i", lambda x, y: x // y, "floor_divide({0}, {1})"),
    "mod": Operation("i", "i", lambda x, y: x % y, "{0} - floor_divide({0}, {1}) * {1}"),
    "bit_and": Operation("i", "i", lambda x, y: x & y, "{0} & {1}", True),
    "bit_or": Operation("i", "i", lambda x, y: x | y, "{0} | {1}", True),
    "bit_xor": Operation("i", "i", lambda x, y: x ^ y, "{0} ^ {1}", True),
    "less": Operation("same", "b", lambda x, y: np.less(x, y), "{0} < {1}"),
    "less_equal": Operation("same", "b", lambda x, y: np.less_equal(x, y), "{0} <= {1}"),
    "equal": Operation("same", "b", lambda x, y: np.equal(x, y), "{0} == {1}", True),
    "and": Operation("b", "b", np.logical_and, "{0} & {1}", True),
    "or": Operation("b", "b", np.logical_or, "{0} | {1}", True),
    "not": Operation("b", "b", np.logical_not, "not {0}"),
    "where": Operation("where", "", np.where, "select({0}, {1}, {2})"),
    "real": Operation("any", "f", lambda x: np.asarray(x, np.float64)[()], ""),
    "index": Operation("any", "i", _truncated, ""),
    "floor": Operation("f", "f", _of_numpy("floor"), "floor({0})"),
    "sqrt": Operation("f", "f", _of_numpy("sqrt"), "sqrt({0})"),
    **{
        name: Operation("f", "f", _of_numpy(name), f"{name}{{bits}}({{0}})")
        for name in ("exp", "expm1", "log", "log1p", "tanh", "sin", "cos", "arctan")
    },
    "erf": Operation("f", "f", lambda x: _erf(x)[()], "erf{bits}({0})"),
    "power": Operation("f", "f", _power, "power{bits}({0}, {1})"),
    "row_sum": Operation("f", "f", _of_rows(np.sum, 0.0), ""),
    "row_max": Operation("f", "f", _of_rows(np.max, -np.inf), ""),
}
