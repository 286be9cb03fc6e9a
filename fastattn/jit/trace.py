"""From a Python function to a graph: what its arguments and parameters are, and what it computes."""

import inspect
import traceback
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastattn._arrays import is_half
from fastattn.errors import ArgumentError, DTypeError, FastattnError, describe
from fastattn.jit.graph import Graph, Node, ancestors
from fastattn.jit.reductions import RowTracer
from fastattn.jit.symbols import Symbol, Table, Tracer, quoted

__all__ = [
    "ARGUMENTS",
    "INPUTS",
    "Signature",
    "Traced",
    "captured",
    "kind_of",
    "required",
    "settled",
    "signature_of",
    "trace",
]

# The arguments of each kind of function, with what they are.
INPUTS: dict[str, tuple[tuple[str, str], ...]] = {
    "score_mod": (("score", "f"), ("b", "i"), ("h", "i"), ("i", "i"), ("j", "i")),
    "mask_mod": (("b", "i"), ("h", "i"), ("i", "i"), ("j", "i")),
    "pairwise_score": (("q", "f"), ("k", "f")),
    "row_function": (("s", "f"), ("b", "i"), ("h", "i"), ("i", "i"), ("j", "i")),
}
# Which argument of attention takes each.
ARGUMENTS = {"score_mod": "score_mod", "mask_mod": "mask", "pairwise_score": "score", "row_function": "normalizer"}


class Signature(NamedTuple):
    """The parameters of a function, after its arguments: names, and values of those that need not be bound."""

    names: tuple[str, ...]
    defaults: Mapping[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Traced:
    """What a function computes.

    Attributes
    ----------
    kind : str
        A key of `INPUTS`.
    graph : Graph
    result : Node
    parameters : tuple of (str, str, int)
        Name, kind and number of axes of each.
    derivatives : dict of str to Node
        What the author says the derivatives are, by the name of the argument.
    """

    kind: str
    graph: Graph
    result: Node
    parameters: tuple[tuple[str, str, int], ...]
    derivatives: Mapping[str, Node]


def signature_of(function: Any, kind: str) -> Signature:
    """Return the parameters of a function of this kind, or raise."""
    arguments = ", ".join(name for name, _ in INPUTS[kind])
    hint = f"write it as def f({arguments}), and parameters after these."
    if not isinstance(function, types.FunctionType):
        raise DTypeError(describe(kind, "a Python function", type(function).__name__, hint))
    found = list(inspect.signature(function).parameters.values())
    loose = [one for one in found if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    count = len(INPUTS[kind])
    first, rest = found[:count], found[count:]
    wrong = [one for one in first if one.kind == one.KEYWORD_ONLY or one.default is not one.empty]
    if loose or wrong or len(first) < count or any(one.kind == one.POSITIONAL_ONLY for one in rest):
        got = f"{function.__name__}{inspect.signature(function)}"
        raise ArgumentError(describe(kind, f"a function of ({arguments}) and named parameters", got, hint))
    return Signature(
        tuple(one.name for one in rest), {one.name: one.default for one in rest if one.default is not one.empty}
    )


def kind_of(name: str, array: "np.ndarray[Any, Any]") -> str:
    """Return the kind of a parameter's elements, or raise."""
    kind = "f" if is_half(array.dtype) else {"b": "b", "i": "i", "u": "i", "f": "f"}.get(array.dtype.kind)
    if kind is None:
        hint = "bind numbers, or arrays of bool, integers or real numbers."
        raise DTypeError(describe(name, "bool, integers or real numbers", array.dtype, hint))
    return kind


def required(function: types.FunctionType) -> tuple[str, ...]:
    """Return the arguments that a function has by position and without a default."""
    code = function.__code__
    return code.co_varnames[: code.co_argcount - len(function.__defaults__ or ())]


def captured(function: types.FunctionType) -> dict[str, Any]:
    """Return the arrays that a function takes from where it was written, by their names there."""
    return {name: value for name, value in _outer(function).items() if isinstance(value, np.ndarray)}


def settled(function: types.FunctionType) -> tuple[tuple[str, str], ...] | None:
    """Return the numbers that a function takes from where it was written, as texts, if it takes nothing else.

    A function of which they are the same computes the same. None where that is not certain: it takes something that
    may be another inside.
    """
    if any(isinstance(one, types.CodeType) for one in function.__code__.co_consts):
        return None  # a function within it, of which the names are others
    found = {name: value for name, value in _outer(function).items() if not _of_numpy(value)}
    if any(type(value) not in (bool, int, float) for value in found.values()):
        return None
    return tuple((name, repr(value)) for name, value in found.items())


def _of_numpy(value: Any) -> bool:
    module = value.__name__ if isinstance(value, types.ModuleType) else ""
    return isinstance(value, np.ufunc) or module.partition(".")[0] in ("numpy", "scipy", "math")


def _outer(function: types.FunctionType) -> dict[str, Any]:
    """Return what a function takes from where it was written, by name."""
    code = function.__code__
    names = {name: cell.cell_contents for name, cell in zip(code.co_freevars, function.__closure__ or ())}
    for name in code.co_names:
        if name in function.__globals__:
            names.setdefault(name, function.__globals__[name])
    return names


def trace(
    function: types.FunctionType,
    kind: str,
    parameters: tuple[tuple[str, str, int], ...],
    derivative: Callable[..., Any] | None = None,
) -> Traced:
    """Call a function with symbols, and return what it computes; what it captured comes before its own parameters."""
    name = function.__name__ if function.__name__.isidentifier() else kind
    tracer = RowTracer(name) if kind == "row_function" else Tracer(name)
    inputs = [Symbol(tracer, tracer.graph.input(name, of)) for name, of in INPUTS[kind]]
    feature = tracer.graph.input("feature", "i")
    tables: dict[str, Symbol] = {}
    for number, (name, of, ndim) in enumerate(parameters):
        along = feature if kind == "pairwise_score" and ndim else None
        if along is not None and ndim > 1:
            got = f"{name} of {ndim} axes"
            raise tracer.refuse(got, "a parameter of a pairwise score is a number, or has one for each feature.", " ")
        tables[name] = Table(tracer, name, number, of, ndim, along)

    def result(called: Any, what: str) -> Any:
        try:
            with np.errstate(all="ignore"):
                own = {name: table for name, table in tables.items() if name in _own(called)}
                given = _rebound(called, tables)(*inputs, **own)
        except FastattnError:
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = quoted(frame.filename, frame.lineno or 0)
            if isinstance(error, IndexError) and "only integers" in str(error):  # of NumPy, of a symbol as an index
                hint = "bind the array as a parameter, or capture it directly, by a name of its own."
                raise tracer.refuse("a look-up in an array that it does not know", hint, place) from error
            hint = "it is called once with symbols: use operators and NumPy's functions on them, and bind arrays."
            raise tracer.refuse(f"{type(error).__name__}: {error}", hint, place) from error
        tracer.place = f" as the {what} of {tracer.name}"
        if given is None or (what == "result" and isinstance(given, (list, tuple))):
            raise tracer.refuse(type(given).__name__, "end it with `return` and one number.")
        return given

    node = tracer.node(result(function, "result"))
    if kind == "mask_mod":
        if node.kind != "b":
            raise tracer.refuse("a number", "return a bool, as of `i >= j`.")
    else:
        node = tracer.finished(tracer.graph.real(node))
    derivatives = {}
    if derivative is not None:
        tracer.place = ""
        given = result(derivative, "derivative")
        wanted = ("score",) if kind == "score_mod" else ("q", "k")
        several = given if isinstance(given, tuple) else (given,)
        if len(several) != len(wanted):
            hint = f"return the derivative with respect to {' and that to '.join(wanted)}."
            raise tracer.refuse(f"{len(several)} derivatives", hint)
        derivatives = {name: tracer.graph.real(tracer.node(one)) for name, one in zip(wanted, several)}
    return _same(Traced(kind, tracer.graph, node, parameters, derivatives))


_MOST = 256  # functions that are remembered
_seen: dict[Any, Traced] = {}


def _same(traced: Traced) -> Traced:
    """Return an earlier equal function, for which more is known, or this one.

    A function that captured more than numbers is traced whenever it is bound: what it captured may have changed.
    """
    nodes = {node: place for place, node in enumerate(ancestors([traced.result, *traced.derivatives.values()]))}
    facts = [(n.operation, n.kind, repr(n.value), *(nodes[argument] for argument in n.arguments)) for n in nodes]
    ends = {name: nodes[node] for name, node in traced.derivatives.items()}
    key = (traced.kind, traced.parameters, nodes[traced.result], *ends.items(), *facts)
    found = _seen.setdefault(key, traced)
    for old in list(_seen)[: max(0, len(_seen) - _MOST)]:  # several threads may do so
        _seen.pop(old, None)
    return found


def _own(function: types.FunctionType) -> tuple[str, ...]:
    code = function.__code__
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _rebound(function: types.FunctionType, tables: Mapping[str, Symbol]) -> Any:
    """Return the function with symbols in place of the arrays that it captured."""
    outer = captured(function).keys() & tables.keys()
    if not outer:
        return function
    cells = tuple(
        types.CellType(tables[name]) if name in outer else cell
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ())
    )
    known = {**function.__globals__, **{name: tables[name] for name in outer}}
    made = types.FunctionType(function.__code__, known, function.__name__, function.__defaults__, cells)
    made.__kwdefaults__ = function.__kwdefaults__
    return made
