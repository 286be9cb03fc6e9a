"""Functions with their parameters: what attention is given, and what its kernels call."""

import ctypes
import itertools
import operator
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np

from fastattn import _reprs
from fastattn._arrays import Array, as_array, float_dtype, frozen, native
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe
from fastattn.jit import check, objects
from fastattn.jit.derivative import derive, slope
from fastattn.jit.evaluate import evaluate
from fastattn.jit.functions import FUNCTIONS, text_of
from fastattn.jit.graph import Graph, Node, ancestors
from fastattn.jit.intervals import Range, Ranges, Unsafe
from fastattn.jit.trace import Traced, kind_of

__all__ = ["Bound", "Compiled", "MaskFunction", "Masks", "PairwiseFunction", "ScoreModifier", "copied", "problem_of"]

BLOCK = 64  # queries and keys of a block of a mask
_KEPT = 8  # problem sizes that an object remembers
_ROUNDED = 2.0**-23
_numbers = itertools.count()


class Compiled:
    """The compiled functions of one kind of numbers, and the parameters that they are called with.

    Attributes
    ----------
    parameters : int
        The address of their pointers: first that of all sizes (int64), then one to the elements of each parameter.
    gradients : tuple of int
        How many numbers (float64) the gradient of each parameter has; 0 of one that has none.
    """

    def __init__(self, traced: Traced, arrays: list[Array], wanted: list[bool], bits: int, narrow: bool) -> None:
        self._traced, self._bits, self._narrow = traced, bits, narrow
        self._addresses: dict[str, int] = {}
        dtypes = {"f": np.dtype(f"f{bits // 8}"), "i": np.dtype(np.int64), "b": np.dtype(np.uint8)}
        self._arrays = [frozen(_held(name, a, dtypes[kind])) for (name, kind, _), a in zip(traced.parameters, arrays)]
        for node in ancestors([traced.result, *traced.derivatives.values()]):
            if node.operation == "constant" and node.kind == "f":
                _held(traced.kind, np.asarray(node.value), dtypes["f"])
        self._sizes = frozen(np.array([n for array in arrays for n in array.shape] or [0], np.int64))
        self._pointers = frozen(np.array([a.ctypes.data for a in (self._sizes, *self._arrays)], np.int64))
        self.parameters = int(self._pointers.ctypes.data)
        self.gradients = tuple(array.size if one else 0 for array, one in zip(arrays, wanted))

    def address(self, name: str) -> int:
        """Return the address of a function; the first time anywhere, compile it."""
        found = self._addresses.get(name)
        if found is None:
            text = text_of(self._traced, name, self._bits, self._narrow)
            found = self._addresses[name] = objects.address(text, name)
        return found

    @property
    def forward(self) -> int:
        """The address of the forward function."""
        return self.address("forward")

    @property
    def backward(self) -> int:
        """The address of the backward function."""
        return self.address("backward")

    @property
    def sloped(self) -> int:
        """The address of the function that stands for the backward one of a modifier, or 0.

        It computes slopes with the scores, so that what both are made of, as the tanh of a softcap, is computed once.
        """
        return self.address("sloped") if _has_slopes(self._traced, any(self.gradients)) else 0


def _has_slopes(traced: Traced, trained: bool) -> bool:
    """Whether kernels are given slopes in place of a backward function: not where all are 1 or some 0 by choice."""
    found = slope(traced) if traced.kind == "score_mod" and not trained else None
    return found is not None and not found.is_constant(1.0)


def copied(array: Array) -> Array:
    """Return a copy that nobody can change, as kernels read it."""
    return frozen(native(array).reshape(array.shape))


def _held(name: str, array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array as compiled functions read it, or raise where a finite number would become infinite."""
    with np.errstate(over="ignore"):
        held = np.ascontiguousarray(array).astype(dtype)
    if dtype.kind == "f" and array.dtype.kind == "f" and array.dtype.itemsize > dtype.itemsize:
        beyond = np.isinf(held.reshape(array.shape)) & np.isfinite(array)
        if beyond.any():
            hint = "use np.inf or -np.inf where that is meant, or query, key and value of float64."
            got = repr(array[beyond].flat[0].item())
            raise ArgumentError(describe(name, f"numbers finite in {dtype.name}", got, hint))
    return held


class Bound:
    """A function with its parameters; nothing of it changes.

    Attributes
    ----------
    name : str
    parameters : dict of str to array
        Copies, which cannot be written.
    """

    def __init__(
        self,
        name: str,
        traced: Traced,
        arrays: list[Array],
        trained: list[bool],
        made: tuple[Callable[..., Any], tuple[Any, ...]],
        checked: bool = False,
    ) -> None:
        self.name = name
        self._traced = traced
        self._arrays = arrays
        self._trained = trained
        self._made = made  # what makes an equal one in another process
        self._checked = not checked
        self._kept: dict[tuple[Any, ...], Any] = {}
        self._number = next(_numbers)
        self._ends: dict[int, Range] = {}

    @property
    def kind(self) -> str:
        """The name of the decorator."""
        return self._traced.kind

    @property
    def parameters(self) -> dict[str, Array]:
        """The arrays and numbers that are bound, by name."""
        return {name: array for (name, _, _), array in zip(self._traced.parameters, self._arrays)}

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the parameters that have a gradient: those bound to arrays, or scalars of NumPy, of real numbers."""
        return tuple(name for (name, _, _), one in zip(self._traced.parameters, self._trained) if one)

    @property
    def inputs(self) -> frozenset[str]:
        """The arguments that the result depends on, of score, b, h, i and j, or q and k."""
        every = ancestors([self._traced.result, *self._traced.derivatives.values()])
        return frozenset(node.value for node in every if node.operation == "input") - {"feature"}

    def source(self, dtype: Any = np.float32) -> str:
        """Return the compiled functions as text.

        Parameters
        ----------
        dtype : dtype, optional
            float32, which is the default, or float64.

        Raises
        ------
        DTypeError
            If it is another type.
        """
        bits = 8 * float_dtype(dtype).itemsize
        names = FUNCTIONS[self._traced.kind]
        if _has_slopes(self._traced, any(self._trained)):
            names = ("forward", "sloped")
        return "\n\n".join(text_of(self._traced, name, bits, True) for name in names)

    def gradients(self, sums: list[Array | None]) -> dict[str, Array]:
        """Return gradients as the parameters are, shape and dtype, by name.

        Parameters
        ----------
        sums : list of array or None
            What the compiled function added up of each parameter, float64; None of one without a gradient.
        """
        found: dict[str, Array] = {}
        for (name, _, _), array, total in zip(self._traced.parameters, self._arrays, sums):
            if total is not None:
                with np.errstate(over="ignore"):
                    found[name] = total.reshape(array.shape).astype(array.dtype)
        return found

    def replaced(self, name: str, array: Array) -> Self:
        """Return the same function with other numbers in place of a parameter.

        Raises
        ------
        ShapeError, DTypeError
            Unless the array has the shape and the kind of numbers of the parameter.
        """
        array = as_array(name, array)
        arrays = list(self._arrays)
        for number, (one, kind, _) in enumerate(self._traced.parameters):
            if one == name:
                before = arrays[number]
                hint = "bind the function to a parameter of another kind anew."
                if array.shape != before.shape:
                    raise ShapeError(describe(name, f"shape {before.shape}", f"shape {array.shape}", hint))
                if kind_of(name, array) != kind:
                    raise DTypeError(describe(name, f"{before.dtype}", array.dtype, hint))
                arrays[number] = copied(array)
        function, _, trained = self._made[1]
        made = (self._made[0], (function, dict(zip(self.parameters, arrays)), trained))
        return type(self)(self.name, self._traced, arrays, self._trained, made)

    def following(self, values: Mapping[str, Array]) -> Self:
        """Return the same function with parameters as they are in `values`: this one, if none has changed."""
        found = self
        for name, array in values.items():
            before = found.parameters[name]
            if array.dtype != before.dtype or not np.array_equal(array, before):
                found = found.replaced(name, array)
        return found

    def placed(self, first: int) -> Self:
        """Return the same function of queries whose place i begins at `first`, by code that is compiled once."""
        if first == 0 or "i" not in self.inputs:
            return self
        number = len(self._arrays)
        traced = self._remember(("placed",), lambda: _shifted(self._traced, number))
        arrays, trained = [*self._arrays, copied(np.array(first))], [*self._trained, False]
        return type(self)(self.name, traced, arrays, trained, (_placed, (self, first)))

    def _remember(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        found = self._kept.get(key)
        if found is None:
            found = make()
            for old in list(self._kept)[: len(self._kept) - _KEPT + 1]:  # several threads may do so
                self._kept.pop(old, None)
            self._kept[key] = found
        return found

    def _element(self, parameter: int) -> Range:
        """Return the least and the most of a parameter."""
        if parameter not in self._ends:
            array, kind = self._arrays[parameter], self._traced.parameters[parameter][1]
            if not array.size:
                self._ends[parameter] = Range(0, 0)
            elif kind == "f":
                low, high = float(array.min()), float(array.max())
                low, high = low - _ROUNDED * abs(low), high + _ROUNDED * abs(high)  # it may become float32
                self._ends[parameter] = Range(low, high) if low == low else Range(-np.inf, np.inf, True)
            else:
                self._ends[parameter] = Range(int(array.min()), int(array.max()))
        return self._ends[parameter]

    def _size(self, parameter: int, axis: int) -> int:
        return int(self._arrays[parameter].shape[axis])

    def _narrow(self, inputs: Mapping[str, Range]) -> bool:
        """Return whether all integers fit in 32 bits, or raise for what must not run."""
        if any(one.high < one.low for one in inputs.values()):
            return True  # it is never called
        fits = True
        for node in (self._traced.result, *self._traced.derivatives.values()):
            try:
                found = Ranges(inputs, self._size, self._element).of(node, check=True)
            except Unsafe as unsafe:
                raise self._unsafe(unsafe, inputs) from None
            fits = fits and all(
                -(2**31) <= one.low and one.high < 2**31 for node, one in found.items() if node.kind == "i"
            )
        return fits

    def _unsafe(self, unsafe: Unsafe, inputs: Mapping[str, Range]) -> ArgumentError:
        """Return the error for a look-up that leaves its array, or an integer that has no value."""
        node, found, limit = unsafe.node, unsafe.found, unsafe.limit
        reached = f"{found.low} to {found.high}"
        ends = ", ".join(f"{name} from {one.low} to {one.high}" for name, one in inputs.items() if one.low < one.high)
        if node.operation == "look":
            name = self._traced.parameters[node.value][0]
            hint = (
                f"make {name} larger, or keep the index inside by np.clip, of the integer, not of what it is made of."
            )
            expected = f"indices from 0 to {limit - 1} in look-ups of {name}"
        elif limit == 0:
            name, expected = self.name, "a divisor that is not 0"
            hint = "keep it away from 0 by np.maximum, or divide real numbers by /."
        else:
            name, expected, hint = self.name, "integers of 64 bits", "use real numbers, as i * 1.0."
        got = f"{reached}" + (f", for {ends}" if ends else "")
        return ArgumentError(describe(name, expected, got, hint))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made

    def __repr__(self) -> str:
        values = {name: array.item() if array.ndim == 0 else array for name, array in self.parameters.items()}
        return f"{self.name}({', '.join(f'{name}={_reprs.brief(value)}' for name, value in values.items())})"


def _placed(bound: Bound, first: int) -> Bound:
    return bound.placed(first)


def _shifted(traced: Traced, number: int) -> Traced:
    """Return the function with one more parameter, of this number, that is added to i."""
    graph = Graph()
    i = graph.make("add", graph.input("i", "i"), graph.look(number, "i", ()))

    def shifted(node: Node) -> Node | None:
        return i if node.operation == "input" and node.value == "i" else None

    result = graph.copy_of(traced.result, shifted)
    derivatives = {name: graph.copy_of(node, shifted) for name, node in traced.derivatives.items()}
    return Traced(traced.kind, graph, result, (*traced.parameters, ("first query", "i", 0)), derivatives)


def problem_of(batch: int, heads: int, queries: int, keys: int) -> dict[str, Range]:
    """Return the ranges of b, h, i and j of a problem of these sizes."""
    sizes = {"b": batch, "h": heads, "i": queries, "j": keys}
    return {name: Range(0, size - 1) for name, size in sizes.items()}


class ScoreModifier(Bound):
    """A function of scores, for ``attention(..., score_mod=)``."""

    def compiled(self, dtype: Any, batch: int, heads: int, queries: int, keys: int) -> Compiled:
        """Return the compiled functions for a problem of these sizes.

        Raises
        ------
        ArgumentError
            If a look-up may leave its array, or an integer has no value.
        """
        key = (np.dtype(dtype).itemsize, batch, heads, queries, keys)

        def make() -> Compiled:
            narrow = self._narrow(problem_of(batch, heads, queries, keys))
            if not self._checked and min(key) > 0:
                check.check_derivatives(self, batch, heads, queries, keys)
                self._checked = True
            shared = ("code", key[0], narrow)
            return self._remember(
                shared, lambda: Compiled(self._traced, self._arrays, self._trained, 8 * key[0], narrow)
            )

        return self._remember(key, make)

    def evaluate(self, score: Any, b: Any, h: Any, i: Any, j: Any) -> Array:
        """Return the modified scores in NumPy, float64; all broadcast with each other."""
        inputs = {"score": score, "b": b, "h": h, "i": i, "j": j}
        (found,) = evaluate([self._traced.result], inputs, self._arrays)
        return np.broadcast_arrays(np.asarray(found, np.float64), *map(np.asarray, inputs.values()))[0]

    def evaluate_vjp(self, score: Any, b: Any, h: Any, i: Any, j: Any, d: Any) -> tuple[Array, dict[str, Array]]:
        """Return the gradients of scores and of parameters in NumPy, float64; `d` has the shape of all together."""
        inputs = {"score": score, "b": b, "h": h, "i": i, "j": j, "d": d}
        (d_score,), totals = _vjp(self, inputs, ("score",))
        return d_score, totals


def _vjp(bound: Bound, inputs: Mapping[str, Any], wanted: tuple[str, ...]) -> tuple[list[Array], dict[str, Array]]:
    """Return the gradients of inputs, of the shape of "d", and those of parameters."""
    derivative = derive(bound._traced)
    d = np.asarray(inputs["d"], np.float64)
    nodes = [derivative.inputs.get(name, bound._traced.graph.constant(0.0)) for name in wanted]
    looks = [node for look, gradient in derivative.looks for node in (gradient, *look.arguments)]
    values = dict(zip([*nodes, *looks], evaluate([*nodes, *looks], inputs, bound._arrays)))
    found = [np.where(d == 0, 0.0, values[node]) for node in nodes]
    totals = {name: np.zeros(array.shape) for name, array in bound.parameters.items() if name in bound.trained}
    for look, gradient in derivative.looks:
        name = bound._traced.parameters[look.value][0]
        if name in totals:
            part = np.where(d == 0, 0.0, values[gradient])
            place = np.broadcast_arrays(part, *(values[node] for node in look.arguments))[1:]
            number = np.ravel_multi_index(place, totals[name].shape) if place else np.zeros(part.shape, int)
            np.add.at(totals[name].reshape(-1), number, part)
    return found, totals


class Masks:
    """What ``&``, ``|`` and ``~`` make masks of."""

    __array_ufunc__ = None  # an array beside it leaves the operator to it, and does not ask for each element

    def bound(self) -> "MaskFunction":
        """Return the mask with its parameters, or raise."""
        raise NotImplementedError

    def __and__(self, other: Any) -> "MaskFunction":
        return _joined("and", self, other)

    def __rand__(self, other: Any) -> "MaskFunction":
        return _joined("and", other, self)

    def __or__(self, other: Any) -> "MaskFunction":
        return _joined("or", self, other)

    def __ror__(self, other: Any) -> "MaskFunction":
        return _joined("or", other, self)

    def __invert__(self) -> "MaskFunction":
        return _joined("not", self)

    def __xor__(self, other: Any) -> "MaskFunction":
        raise ArgumentError(describe("mask", "masks joined by &, | and ~", "^", "write (a | b) & ~(a & b) for a ^ b."))

    __rxor__ = __xor__

    def __bool__(self) -> bool:
        hint = "write a & b for `a and b`, a | b for `a or b`, ~a for `not a`, and `mask is not None` for `if mask`."
        raise ArgumentError(describe("mask", "masks joined by &, | and ~", "one used as True or False", hint))


class MaskFunction(Masks, Bound):
    """A function that says who may attend to whom, for ``attention(..., mask=)``.

    ``a & b``, ``a | b`` and ``~a`` are masks again.
    """

    def compiled(self, batch: int, heads: int, queries: int, keys: int) -> Compiled:
        """Return the compiled function for a problem of these sizes; see `ScoreModifier.compiled`."""
        key = (batch, heads, queries, keys)

        def make() -> Compiled:
            narrow = self._narrow(problem_of(*key))
            return self._remember(
                ("code", narrow), lambda: Compiled(self._traced, self._arrays, self._trained, 64, narrow)
            )

        return self._remember(key, make)

    def evaluate(self, b: Any, h: Any, i: Any, j: Any) -> Array:
        """Return the mask in NumPy; all broadcast with each other."""
        inputs = {"b": b, "h": h, "i": i, "j": j}
        (found,) = evaluate([self._traced.result], inputs, self._arrays)
        return np.broadcast_arrays(np.asarray(found, bool), *map(np.asarray, inputs.values()))[0]

    def block_map(self, batch: int, heads: int, queries: int, keys: int) -> Array:
        """Return which blocks of 64 queries and 64 keys are hidden (0), shown (1), or partly so (2).

        Returns
        -------
        array, uint8, shape (batch or 1, heads or 1, blocks of queries, blocks of keys)
            1 where the mask does not depend on the sample, or on the head. It may only be read.
        """
        return self._remember(("map", batch, heads, queries, keys), lambda: self._map(batch, heads, queries, keys))

    def _map(self, batch: int, heads: int, queries: int, keys: int) -> Array:
        compiled = self.compiled(batch, heads, queries, keys)
        used = self.inputs
        first, other = (np.arange(0, size, BLOCK) for size in (queries, keys))
        shape = (min(batch, 1) if "b" not in used else batch, min(heads, 1) if "h" not in used else heads)
        states = np.full((*shape, len(first), len(other)), 2, np.uint8)
        if not states.size:
            return frozen(states)
        inputs = {
            "i": Range(first[:, None], np.minimum(first + BLOCK, queries)[:, None] - 1),
            "j": Range(other[None, :], np.minimum(other + BLOCK, keys)[None, :] - 1),
        }
        call = None
        for b in range(shape[0]):
            for h in range(shape[1]):
                own = {**inputs, "b": Range(b, b), "h": Range(h, h)}
                result = self._traced.result
                low, high, _ = Ranges(own, self._size, self._element).of(result)[result]
                one = states[b, h]
                one[...] = np.where(np.equal(low, 1), 1, np.where(np.equal(high, 0), 0, 2))
                if (one == 2).any():
                    call = call or _BLOCKS(compiled.address("blocks"))
                    call(one.ctypes.data, queries, keys, b, h, compiled.parameters)
        return frozen(states)

    def bound(self) -> "MaskFunction":
        """Return itself."""
        return self


_INTEGER = ctypes.c_int64
_BLOCKS = ctypes.CFUNCTYPE(None, ctypes.c_void_p, *[_INTEGER] * 4, ctypes.c_void_p)


def _joined(operation: str, *operands: Any) -> MaskFunction:
    """Return a mask made of others, which is the same for the same ones."""
    for one in operands:
        if not isinstance(one, Masks):
            hint = (
                "make a mask of a function by fastattn.mask_mod, and of an array by a look-up, as "
                "mask_mod(lambda b, h, i, j, seen: seen[b, j])(seen=array)."
            )
            raise DTypeError(describe("mask", "masks of fastattn.mask_mod beside &, |", type(one).__name__, hint))
    masks = tuple(one.bound() for one in operands)
    youngest = max(masks, key=lambda mask: mask._number)  # what it holds goes when it goes
    found: MaskFunction = youngest._remember((operation, *masks), lambda: _join(operation, masks))
    return found


def _join(operation: str, masks: tuple[MaskFunction, ...]) -> MaskFunction:
    graph, results = Graph(), []
    parameters: list[tuple[str, str, int]] = []
    arrays: list[Array] = []
    for mask in masks:
        before = len(parameters)
        taken = {name for name, _, _ in parameters}
        for name, kind, ndim in mask._traced.parameters:
            same = sum(other == name or other.startswith(f"{name}_") for other in taken)
            parameters.append((f"{name}_{same + 1}" if name in taken else name, kind, ndim))

        def renumbered(node: Node, before: int = before) -> Node | None:
            if node.operation == "size":
                parameter, axis = node.value
                return graph.size(parameter + before, axis)
            return graph.look(node.value + before, node.kind, node.arguments) if node.operation == "look" else None

        results.append(graph.copy_of(mask._traced.result, renumbered))
        arrays += mask._arrays
    traced = Traced("mask_mod", graph, graph.make(operation, *results), tuple(parameters), {})
    words = {"and": " & ", "or": " | "}
    name = f"~{masks[0].name}" if operation == "not" else f"({words[operation].join(mask.name for mask in masks)})"
    made = getattr(operator, {"and": "and_", "or": "or_", "not": "invert"}[operation])
    return MaskFunction(name, traced, arrays, [False] * len(arrays), (made, masks))


class PairwiseFunction(Bound):
    """A score that is a sum over features, for ``attention(..., score=)``."""

    def compiled(self, dtype: Any, width: int) -> Compiled:
        """Return the compiled functions for queries and keys of this width.

        Raises
        ------
        ShapeError
            If a parameter has another number of features.
        """
        key = (np.dtype(dtype).itemsize, width)

        def make() -> Compiled:
            for name, array in self.parameters.items():
                if array.ndim and array.shape != (width,):
                    hint = "a parameter of a pairwise score is a number, or has one for each feature."
                    raise ShapeError(describe(name, f"shape ({width},)", f"shape {array.shape}", hint))
            narrow = self._narrow({"feature": Range(0, width - 1)})
            if not self._checked and width:
                check.check_pairwise(self, width)
                self._checked = True
            return Compiled(self._traced, self._arrays, self._trained, 8 * key[0], narrow)

        return self._remember(key, make)

    def evaluate(self, query: Any, key: Any) -> Array:
        """Return the scores (..., Tq, Tk) of query (..., Tq, D) and key (..., Tk, D) in NumPy, float64."""
        inputs = _pairs(query, key)
        (found,) = evaluate([self._traced.result], inputs, self._arrays)
        return np.broadcast_arrays(np.asarray(found, np.float64), inputs["q"], inputs["k"])[0].sum(-1)

    def evaluate_vjp(self, query: Any, key: Any, d: Any) -> tuple[Array, Array, dict[str, Array]]:
        """Return the gradients of query, key and parameters in NumPy, float64; `d` is that of the scores."""
        inputs = _pairs(query, key)
        whole = np.broadcast_shapes(inputs["q"].shape, inputs["k"].shape)
        inputs = {**inputs, "d": np.broadcast_to(np.asarray(d, np.float64)[..., None], whole)}
        (d_query, d_key), totals = _vjp(self, inputs, ("q", "k"))
        return d_query.sum(-2), d_key.sum(-3), totals


def _pairs(query: Any, key: Any) -> dict[str, Any]:
    query, key = np.asarray(query, np.float64), np.asarray(key, np.float64)
    return {"q": query[..., :, None, :], "k": key[..., None, :, :], "feature": np.arange(query.shape[-1])}
