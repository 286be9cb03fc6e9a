"""What a function is called with when it is traced: symbols, whose operators and NumPy functions make a graph.

What cannot be traced is refused with the line of the function that does it, and with what to write instead.
"""

import linecache
import os
import reprlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastattn.errors import UnsupportedError, describe
from fastattn.jit.graph import Graph, Node
from fastattn.jit.operations import OPERATIONS

__all__ = ["Symbol", "Table", "Tracer"]

_OURS = str(Path(__file__).parent)
_NUMPY = str(Path(np.__file__).parent)


class Tracer:
    """One call of a function with symbols.

    Attributes
    ----------
    graph : Graph
    name : str
        What the function is called in errors.
    place : str
        Where it is, as the end of a sentence, while no line of the function runs.
    refused : tuple of str
        NumPy's functions that are none for it.
    """

    refused: tuple[str, ...] = ("sum", "mean", "max", "amax", "min", "amin")

    def __init__(self, name: str) -> None:
        self.graph = Graph()
        self.name = name
        self.place = ""

    def finished(self, node: Node) -> Node:
        """Return what a function computes, from what it returned."""
        return node

    def refuse(self, got: str, hint: str, line: str = "") -> UnsupportedError:
        """Return the error for what cannot be traced; the line is that of the caller's frame unless it is given."""
        line = line or self.place or _line()
        return UnsupportedError(describe(self.name, "what can be compiled", f"{got}{line}", hint))

    def node(self, value: Any) -> Node:
        """Return the node of a symbol or a number, or raise."""
        if isinstance(value, Table):
            return value.element()
        if isinstance(value, Symbol):
            if value.tracer is not self:
                raise self.refuse("a symbol of another function", "use the arguments of this function alone.")
            return value.node
        if isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0 and value.dtype.kind in "biuf":
            value = value.item()
        if isinstance(value, (bool, int, float)):
            return self.graph.constant(value)
        if isinstance(value, np.ndarray):
            hint = "make it a parameter of the function, bound by keyword, and look up elements as table[h, i]."
            raise self.refuse(f"an array of shape {value.shape}", hint)
        raise self.refuse(reprlib.repr(value), "use numbers, the arguments of the function, and its parameters.")

    def reduce(self, name: str, value: Any) -> "Symbol":
        """Return the sum, mean, max, min or size over the keys of a row, of a function that sees whole rows."""
        hint = "a function of a row is a normalizer: decorate it with fastattn.row_function."
        raise self.refuse(f"the {name} of one number", hint)

    def apply(self, operation: str, *values: Any) -> "Symbol":
        """Return the symbol of an operation."""
        return Symbol(self, self.nodes(operation, [self.node(value) for value in values]))

    def nodes(self, operation: str, nodes: list[Node]) -> Node:
        """Return the node of an operation of arguments of any kinds, which are converted as NumPy does."""
        graph = self.graph
        takes = OPERATIONS[operation].takes
        if takes == "f":
            nodes = [graph.real(node) for node in nodes]
        elif takes in ("same", "where"):
            first = nodes[:1] if takes == "where" else []
            if first and first[0].kind != "b":
                raise self.refuse("a condition that is a number", "compare it, as np.where(x > 0, ...).")
            rest = nodes[len(first) :]
            kinds = {node.kind for node in rest}
            if "f" in kinds:
                rest = [graph.real(node) for node in rest]
            elif takes == "same" or kinds != {"b"}:
                rest = [node if node.kind == "i" else graph.make("index", node) for node in rest]
            nodes = first + rest
        elif takes == "b" and any(node.kind != "b" for node in nodes):
            raise self.refuse("a logical operation on numbers", "compare them first, as (i - j > 0) & (i - j < 9).")
        return graph.make(operation, *nodes)


def _line() -> str:
    """Return the line that is running, of the first file that is neither ours nor NumPy's, as the end of a sentence."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_OURS + os.sep, _NUMPY + os.sep)):
        frame = frame.f_back
    return quoted(frame.f_code.co_filename, frame.f_lineno)


def quoted(file: str, number: int) -> str:
    """Return a line of a file as the end of a sentence."""
    text = linecache.getline(file, number).strip()
    return f" in `{text}`" if text else f" in line {number}"


def _unary(operation: str) -> Callable[["Symbol"], "Symbol"]:
    return lambda self: self.tracer.apply(operation, self)


def _binary(function: Callable[[Tracer, Any, Any], "Symbol"], *, reflected: bool = False) -> Any:
    if reflected:
        return lambda self, other: function(self.tracer, other, self)
    return lambda self, other: function(self.tracer, self, other)


def _refused(got: str, hint: str) -> Any:
    def method(self: "Symbol", *arguments: Any, **options: Any) -> Any:
        raise self.tracer.refuse(got, hint)

    return method


def _simple(operation: str) -> Callable[[Tracer, Any, Any], "Symbol"]:
    return lambda tracer, x, y: tracer.apply(operation, x, y)


def _swapped(operation: str) -> Callable[[Tracer, Any, Any], "Symbol"]:
    return lambda tracer, x, y: tracer.apply(operation, y, x)


def _unequal(tracer: Tracer, x: Any, y: Any) -> "Symbol":
    return tracer.apply("not", tracer.apply("equal", x, y))


def _floor_divide(tracer: Tracer, x: Any, y: Any) -> "Symbol":
    if tracer.node(x).kind == "f" or tracer.node(y).kind == "f":
        return tracer.apply("floor", tracer.apply("div", x, y))
    return _of_integers(tracer, "floordiv", x, y)


def _mod(tracer: Tracer, x: Any, y: Any) -> "Symbol":
    if tracer.node(x).kind == "f" or tracer.node(y).kind == "f":
        return tracer.apply("sub", x, tracer.apply("mul", _floor_divide(tracer, x, y), y))
    return _of_integers(tracer, "mod", x, y)


def _of_integers(tracer: Tracer, operation: str, x: Any, y: Any) -> "Symbol":
    nodes = [tracer.node(value) for value in (x, y)]
    nodes = [node if node.kind == "i" else tracer.graph.make("index", node) for node in nodes]
    return Symbol(tracer, tracer.graph.make(operation, *nodes))


_LONGEST_PRODUCT = 64  # powers up to here are products


def _power(tracer: Tracer, x: Any, y: Any) -> "Symbol":
    exponent = tracer.node(y)
    if exponent.is_constant() and exponent.value == int(exponent.value) and abs(exponent.value) <= _LONGEST_PRODUCT:
        number = int(exponent.value)
        if number < 0:
            return tracer.apply("div", 1.0, _power(tracer, x, -number))
        found = Symbol(tracer, tracer.graph.real(tracer.node(1))) if exponent.kind == "f" else tracer.apply("index", 1)
        square = x
        while number:
            found = tracer.apply("mul", found, square) if number % 2 else found
            square, number = tracer.apply("mul", square, square) if number > 1 else square, number // 2
        return found
    if exponent.is_constant(0.5):
        return tracer.apply("sqrt", x)
    return tracer.apply("power", x, y)


def _sign(tracer: Tracer, x: Any) -> "Symbol":
    node = tracer.node(x)
    one, zero = (1.0, 0.0) if node.kind == "f" else (1, 0)
    return tracer.apply("where", x > 0, one, tracer.apply("where", x < 0, -one, zero if node.kind != "f" else x))


def _clip(tracer: Tracer, x: Any, low: Any = None, high: Any = None, **bounds: Any) -> "Symbol":
    low, high = bounds.pop("a_min", bounds.pop("min", low)), bounds.pop("a_max", bounds.pop("max", high))
    if bounds:
        raise tracer.refuse(f"np.clip(..., {', '.join(bounds)}=...)", "write np.clip(x, low, high).")
    x = x if low is None else tracer.apply("maximum", x, low)
    return tracer.apply("minimum", x, high) if high is not None else Symbol(tracer, tracer.node(x))


def _logical(operation: str) -> Callable[..., "Symbol"]:
    def apply(tracer: Tracer, *values: Any) -> "Symbol":
        nodes = [tracer.node(value) for value in values]
        nodes = [n if n.kind == "b" else tracer.nodes("not", [tracer.nodes("equal", [n, zero])])
                 for n, zero in ((n, tracer.graph.constant(0)) for n in nodes)]  # fmt: skip
        return Symbol(tracer, tracer.nodes(operation, nodes))

    return apply


def _xor(tracer: Tracer, x: Any, y: Any) -> "Symbol":
    apart = tracer.apply("or", x, y), tracer.apply("not", tracer.apply("and", x, y))
    return tracer.apply("and", *apart)


def _bits(name: str, logical: Callable[[Tracer, Any, Any], "Symbol"]) -> Callable[[Tracer, Any, Any], "Symbol"]:
    """Return an operation on the bits of integers that is a logical one of bools."""

    def apply(tracer: Tracer, x: Any, y: Any) -> "Symbol":
        integers = tracer.node(x).kind == tracer.node(y).kind == "i"
        return tracer.apply(name, x, y) if integers else logical(tracer, x, y)

    return apply


def _invert(tracer: Tracer, x: Any) -> "Symbol":
    return tracer.apply("sub", -1, x) if tracer.node(x).kind == "i" else tracer.apply("not", x)


def _shift(operation: str) -> Callable[[Tracer, Any, Any], "Symbol"]:
    def apply(tracer: Tracer, x: Any, y: Any) -> "Symbol":
        count = tracer.node(y)
        if tracer.node(x).kind != "i" or count.kind != "i" or not count.is_constant(*range(63)):
            raise tracer.refuse("a shift of other than integers by a known number", "write x * 2**n or x // 2**n.")
        return _of_integers(tracer, operation, x, 2**count.value)

    return apply


def _of_log(base: float) -> Callable[[Tracer, Any], "Symbol"]:
    return lambda tracer, x: tracer.apply("mul", tracer.apply("log", x), float(1 / np.log(base)))


def _plain(*operations: str) -> dict[str, Callable[..., "Symbol"]]:
    return {name: (lambda tracer, *values, name=name: tracer.apply(name, *values)) for name in operations}


# What NumPy calls each function, and what it is here.
_FUNCTIONS: dict[str, Callable[..., "Symbol"]] = {
    **_plain(
        "exp", "expm1", "log", "log1p", "sqrt", "tanh", "arctan", "sin", "cos", "floor", "minimum", "maximum", "where",
        "erf",
    ),
    "expit": lambda tracer, x: tracer.apply("div", 1.0, tracer.apply("add", 1.0, np.exp(-x))),
    "add": _simple("add"),
    "subtract": _simple("sub"),
    "multiply": _simple("mul"),
    "divide": _simple("div"),
    "floor_divide": _floor_divide,
    "remainder": _mod,
    "power": _power,
    "float_power": _power,
    "negative": lambda tracer, x: tracer.apply("neg", x),
    "positive": lambda tracer, x: tracer.apply("add", x, 0),
    "absolute": lambda tracer, x: tracer.apply("abs", x),
    "fabs": lambda tracer, x: tracer.apply("abs", Symbol(tracer, tracer.graph.real(tracer.node(x)))),
    "square": lambda tracer, x: tracer.apply("mul", x, x),
    "reciprocal": lambda tracer, x: tracer.apply("div", 1.0, x),
    "sign": _sign,
    "clip": _clip,
    "ceil": lambda tracer, x: tracer.apply("neg", tracer.apply("floor", tracer.apply("neg", x))),
    "exp2": lambda tracer, x: tracer.apply("exp", tracer.apply("mul", x, float(np.log(2)))),
    "log2": _of_log(2.0),
    "log10": _of_log(10.0),
    "logaddexp": lambda tracer, x, y: np.maximum(x, y) + np.log1p(np.exp(-abs(x - y))),
    "isnan": lambda tracer, x: _unequal(tracer, x, x),
    "less": _simple("less"),
    "less_equal": _simple("less_equal"),
    "greater": _swapped("less"),
    "greater_equal": _swapped("less_equal"),
    "equal": _simple("equal"),
    "not_equal": _unequal,
    "logical_and": _logical("and"),
    "logical_or": _logical("or"),
    "logical_not": _logical("not"),
    "logical_xor": lambda tracer, x, y: _xor(tracer, x, y),
    "bitwise_and": (_and := _bits("bit_and", _simple("and"))),
    "bitwise_or": (_or := _bits("bit_or", _simple("or"))),
    "bitwise_xor": (_exclusive_or := _bits("bit_xor", _xor)),
    "left_shift": (_left_shift := _shift("mul")),
    "right_shift": (_right_shift := _shift("floordiv")),
    "invert": _invert,
    "sum": lambda tracer, x: tracer.reduce("sum", x),
    "mean": lambda tracer, x: tracer.reduce("mean", x),
    **dict.fromkeys(("max", "amax"), lambda tracer, x: tracer.reduce("max", x)),
    **dict.fromkeys(("min", "amin"), lambda tracer, x: tracer.reduce("min", x)),
}  # fmt: skip
_NUMBER = "a value used as a number of Python"


class Symbol:
    """A number that is known when the compiled function runs."""

    __slots__ = ("node", "tracer")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tracer: Tracer, node: Node) -> None:
        self.tracer = tracer
        self.node = node

    __add__ = _binary(_simple("add"))
    __radd__ = _binary(_simple("add"), reflected=True)
    __sub__ = _binary(_simple("sub"))
    __rsub__ = _binary(_simple("sub"), reflected=True)
    __mul__ = _binary(_simple("mul"))
    __rmul__ = _binary(_simple("mul"), reflected=True)
    __truediv__ = _binary(_simple("div"))
    __rtruediv__ = _binary(_simple("div"), reflected=True)
    __floordiv__ = _binary(_floor_divide)
    __rfloordiv__ = _binary(_floor_divide, reflected=True)
    __mod__ = _binary(_mod)
    __rmod__ = _binary(_mod, reflected=True)
    __pow__ = _binary(_power)
    __rpow__ = _binary(_power, reflected=True)
    __lt__ = _binary(_simple("less"))
    __le__ = _binary(_simple("less_equal"))
    __gt__ = _binary(_swapped("less"))
    __ge__ = _binary(_swapped("less_equal"))
    __eq__ = _binary(_simple("equal"))
    __ne__ = _binary(_unequal)
    __and__ = __rand__ = _binary(_and)
    __or__ = __ror__ = _binary(_or)
    __xor__ = __rxor__ = _binary(_exclusive_or)
    __lshift__ = _binary(_left_shift)
    __rlshift__ = _binary(_left_shift, reflected=True)
    __rshift__ = _binary(_right_shift)
    __rrshift__ = _binary(_right_shift, reflected=True)
    __neg__ = _unary("neg")
    __abs__ = _unary("abs")
    __invert__ = lambda self: _invert(self.tracer, self)  # noqa: E731
    __bool__ = _refused(
        "a branch on a value that is not known yet",
        "write np.where(condition, this, that), `a & b` for `a and b`, np.minimum for min.",
    )
    __float__ = __complex__ = __round__ = __floor__ = __ceil__ = _refused(
        _NUMBER,
        "use np.exp(x), not math.exp(x), and np.where, np.minimum and np.maximum for what depends on a value.",
    )
    __int__ = __trunc__ = _refused(_NUMBER, "write x.astype(int) for int(x).")
    __index__ = _refused(
        _NUMBER, "bind a list as an array, and look up its elements, as table[h]; a loop has a known number of turns."
    )
    __iter__ = __len__ = __getitem__ = _refused(
        "a number used as a sequence", "look up elements of parameters, as table[h, i - j + 7]."
    )

    def __pos__(self) -> "Symbol":
        return self

    @property
    def size(self) -> "Symbol":
        """How many keys of a row there are."""
        return self.tracer.reduce("size", self)

    def sum(self) -> "Symbol":
        """Return the sum over the keys of a row; of what is true, how many there are."""
        return self.tracer.reduce("sum", self)

    def mean(self) -> "Symbol":
        """Return the mean over the keys of a row."""
        return self.tracer.reduce("mean", self)

    def max(self) -> "Symbol":
        """Return the largest over the keys of a row."""
        return self.tracer.reduce("max", self)

    def min(self) -> "Symbol":
        """Return the smallest over the keys of a row."""
        return self.tracer.reduce("min", self)

    def astype(self, dtype: Any, **options: Any) -> "Symbol":
        """Return it as a bool, an integer, cut toward zero, or a real number."""
        kind = np.dtype(dtype).kind
        if kind == "b":
            return _logical("and")(self.tracer, self, True)
        if kind not in "iuf":
            raise self.tracer.refuse(f"astype({dtype!r})", "use astype(int) or astype(float).")
        return self.tracer.apply("index" if kind in "iu" else "real", self)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> "Symbol":
        return self._call(ufunc.__name__, method == "__call__" and not options, inputs, {})

    def __array_function__(self, function: Any, types: Any, inputs: Any, options: Any) -> "Symbol":
        return self._call(function.__name__, not options or function is np.clip, inputs, options)

    def _call(self, name: str, simple: bool, inputs: Any, options: Any) -> "Symbol":
        found = _FUNCTIONS.get(name)
        if found is None or not simple or (name == "where" and len(inputs) != 3):
            known = ", ".join(sorted(_FUNCTIONS.keys() - set(self.tracer.refused)))
            raise self.tracer.refuse(f"np.{name}", f"write it with operators and these, without options: {known}.")
        try:
            return found(self.tracer, *inputs, **options)
        except TypeError as error:
            raise self.tracer.refuse(f"np.{name} ({error})", "call it as NumPy does, with numbers.") from None


class Table(Symbol):
    """A parameter: an array whose elements are looked up, or a number.

    Attributes
    ----------
    name : str
    number : int
        Its place among the parameters.
    kind : str
        "b", "i" or "f".
    ndim : int
    along : Node or None
        Where it is read if it is used as it is: at the feature d, of a parameter (D,) of a pairwise score.
    """

    __slots__ = ("along", "kind", "name", "ndim", "number")

    def __init__(self, tracer: Tracer, name: str, number: int, kind: str, ndim: int, along: Node | None) -> None:
        self.tracer = tracer
        self.name, self.number, self.kind, self.ndim, self.along = name, number, kind, ndim, along

    def element(self) -> Node:
        """Return the node of what it is as a number, or raise."""
        graph = self.tracer.graph
        if self.ndim == 0:
            return graph.look(self.number, self.kind, ())
        if self.along is not None:
            return graph.look(self.number, self.kind, (self.along,))
        indices = ", ".join(["h", "i", "j", "b", *"..."][: self.ndim])
        raise self.tracer.refuse(f"the whole array {self.name}", f"look up an element, as {self.name}[{indices}].")

    @property
    def node(self) -> Node:  # type: ignore[override]
        """What it is as a number."""
        return self.element()

    @property
    def shape(self) -> tuple[Symbol, ...]:
        """How long its axes are."""
        return tuple(Symbol(self.tracer, self.tracer.graph.size(self.number, axis)) for axis in range(self.ndim))

    def __len__(self) -> int:
        hint = f"write {self.name}.shape[0]."
        raise self.tracer.refuse(f"len({self.name})", hint)

    def __getitem__(self, index: Any) -> Symbol:
        given = index if isinstance(index, tuple) else (index,)
        if len(given) != self.ndim or self.along is not None:
            wanted = "no index: it is read at each feature" if self.along is not None else f"{self.ndim} indices"
            raise self.tracer.refuse(f"{self.name} with {len(given)} indices", f"{self.name} takes {wanted}.")
        nodes = []
        for one in given:
            node = self.tracer.node(one) if not isinstance(one, slice) else None
            if node is None or node.kind != "i":
                got = "a slice" if node is None else "an index that is no integer"
                raise self.tracer.refuse(got, "look up one element, and make real numbers integers by x.astype(int).")
            nodes.append(node)
        return Symbol(self.tracer, self.tracer.graph.look(self.number, self.kind, nodes))
