"""The decorators, and the functions that they make: called with parameters, these give what attention takes."""

import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastattn._arrays import Array, as_array
from fastattn._numbers import check_flag
from fastattn.errors import ArgumentError, DTypeError, UnsupportedError, describe, did_you_mean
from fastattn.jit.bound import Bound, MaskFunction, Masks, PairwiseFunction, ScoreModifier, copied
from fastattn.jit.row_function import RowFunction
from fastattn.jit.trace import ARGUMENTS, INPUTS, captured, kind_of, required, settled, signature_of, trace

__all__ = [
    "Function", "as_mask_mod", "as_pairwise_score", "as_row_function", "as_score_mod", "mask_mod", "pairwise_score",
    "row_function", "score_mod",
]  # fmt: skip

_BOUND: dict[str, type[Bound]] = {
    "score_mod": ScoreModifier,
    "mask_mod": MaskFunction,
    "pairwise_score": PairwiseFunction,
    "row_function": RowFunction,
}


class Function(Masks):
    """A decorated function: called with its parameters by keyword, it gives what attention takes.

    Attributes
    ----------
    function : function
        What was decorated.
    kind : str
        The name of the decorator.
    names : tuple of str
        The parameters.
    """

    def __init__(
        self, function: Any, kind: str, derivative: Callable[..., Any] | None = None, check: bool = False
    ) -> None:
        signature = signature_of(function, kind)
        if derivative is not None:
            signature_of(derivative, kind)
        self.function: types.FunctionType = function
        self.kind = kind
        self.names = signature.names
        self._defaults = signature.defaults
        self._derivative: Any = derivative
        self._check = check
        self._kept: tuple[Any, Any] = (None, None)
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__
        self.__module__, self.__doc__ = function.__module__, function.__doc__

    def __call__(self, *arguments: Any, **given: Any) -> Any:
        """Return the function with these parameters; without any, the same object while it captured the same."""
        state = None if arguments or given else self._state()
        if state is None:
            return self._called(*arguments, **given)
        before, found = self._kept
        if before != state:
            found = self._called()
            self._kept = state, found
        return found

    def _state(self) -> Any:
        """Return what decides what the function computes without parameters, or None if that may not be known."""
        if any(type(value) not in (bool, int, float) for value in self._defaults.values()):
            return None
        found = [settled(one) for one in (self.function, self._derivative) if one is not None]
        return None if None in found else found

    def _called(self, *arguments: Any, **given: Any) -> Any:
        if arguments:
            got = f"{len(arguments)} without a name"
            hint = f"write {_name(self)}({', '.join(f'{name}=...' for name in self.names)})."
            raise ArgumentError(describe(self.__name__, "parameters by keyword", got, hint))
        for name in given:
            if name not in self.names:
                hint = did_you_mean(name, self.names)
                expected = f"one of {', '.join(self.names)}" if self.names else "no parameters"
                raise ArgumentError(describe(self.__name__, expected, repr(name), hint))
        values = {**self._defaults, **given}
        missing = [name for name in self.names if name not in values]
        if missing:
            hint = f"bind it, as {_name(self)}({missing[0]}=...)."
            raise ArgumentError(describe(self.__name__, f"a value for {missing[0]}", "none", hint))
        outer = captured(self.function)
        if self._derivative is not None:
            outer = {**captured(self._derivative), **outer}
        arrays = {name: as_array(name, value) for name, value in outer.items()}
        arrays |= {name: as_array(name, values[name]) for name in self.names}
        learned = {name for name in self.names if isinstance(values[name], (np.ndarray, np.generic))}
        trained = [name in learned and kind_of(name, array) == "f" for name, array in arrays.items()]
        return self._bind(arrays, trained)

    def _bind(self, arrays: Mapping[str, Array], trained: list[bool]) -> Bound:
        parameters = tuple((name, kind_of(name, array), array.ndim) for name, array in arrays.items())
        traced = trace(self.function, self.kind, parameters, self._derivative)
        copies = [copied(array) for array in arrays.values()]
        made = (_rebind, (self, dict(zip(arrays, copies)), tuple(trained)))
        return _BOUND[self.kind](self.__name__, traced, copies, trained, made, self._check)

    def source(self, dtype: Any = np.float32, **given: Any) -> str:
        """Return what is compiled, as text; parameters are given as in a call."""
        found: str = self(**given).source(dtype)
        return found

    def __reduce__(self) -> Any:
        held: Any = sys.modules.get(self.__module__)
        for part in self.__qualname__.split("."):
            held = getattr(held, part, None)
        if held is self:
            return self.__qualname__
        if held is self.function and self._derivative is None:
            return _wrapped, (self.function, self.kind)
        hint = "define it with a name at the top of a module that the other process can import."
        got = f"{self.__qualname__}, which no module holds by that name"
        raise UnsupportedError(describe(self.kind, "a function that another process can import", got, hint))

    def __copy__(self) -> "Function":
        return self

    def __deepcopy__(self, memo: Any) -> "Function":
        return self

    def bound(self) -> MaskFunction:
        """Return the mask, which needs no parameters, or raise."""
        return as_mask_mod(self)

    def __bool__(self) -> bool:
        return super().__bool__() if self.kind == "mask_mod" else True

    def __repr__(self) -> str:
        return f"<{self.kind} {self.__name__}({', '.join(self.names)})>"


def _rebind(function: Function, arrays: dict[str, Array], trained: tuple[bool, ...]) -> Bound:
    return function._bind(arrays, list(trained))


class _Known(dict[str, Function]):
    """The function objects of an undecorated function, by kind: its attribute, so that they go when it goes.

    What copies the function for another process leaves them behind.
    """

    def __reduce__(self) -> Any:
        return _Known, ()


def _wrapped(function: Any, kind: str) -> Function:
    """Return the function object of an undecorated function, one for each."""
    known = function.__dict__.setdefault("_fastattn", _Known())
    made: Function | None = known.get(kind)
    if made is None or made.function is not function:  # `functools.wraps` copies attributes
        made = known[kind] = Function(function, kind)
    return made


def _decorated(kind: str, function: Any, derivative: Any, check: Any) -> Any:
    checked = check_flag("check", check)
    if function is None:
        return lambda function: Function(function, kind, derivative, checked)
    return Function(function, kind, derivative, checked)


def _as(kind: str, value: Any) -> Any:
    if isinstance(value, _BOUND[kind]):
        return value
    if isinstance(value, types.FunctionType):
        _check_alone(kind, value)
        value = _wrapped(value, kind)
    if isinstance(value, Function) and value.kind == kind:
        return value()
    other = value.kind if isinstance(value, (Function, Bound)) else ""
    got = f"a {other}" if other else type(value).__name__
    hint = f"decorate a function with fastattn.{kind}, and bind its parameters by keyword."
    hint = f"pass it as {ARGUMENTS[other]}=." if other else hint
    raise DTypeError(describe(ARGUMENTS[kind], f"a function for fastattn.{kind}", got, hint))


def _check_alone(kind: str, function: types.FunctionType) -> None:
    """Raise for a plain function that has the arguments of another kind, or parameters without a value."""
    code, count = function.__code__, len(INPUTS[kind])
    given = required(function)
    named = code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]
    unbound = [*given[count:], *(name for name in named if name not in (function.__kwdefaults__ or {}))]
    meant = [other for other, inputs in INPUTS.items() if len(inputs) == len(given) != count]
    hints = []
    if meant:
        arguments = ", ".join(name for name, _ in INPUTS[meant[0]])
        hints.append(f"pass a function of ({arguments}) as {' or '.join(f'{ARGUMENTS[other]}=' for other in meant)}")
    if unbound:
        bound = f"fastattn.{kind}({_name(function)})({', '.join(f'{name}=...' for name in unbound)})"
        hints.append(f"decorate it first, and bind it, as {bound}")
    if hints:
        expected = f"a function of ({', '.join(name for name, _ in INPUTS[kind])}) alone"
        got = f"{function.__name__}{inspect.signature(function)}"
        raise ArgumentError(describe(ARGUMENTS[kind], expected, got, f"{', or '.join(hints)}."))


def _name(function: Any) -> str:
    """Return what stands for a function in a text that is Python."""
    return str(function.__name__) if function.__name__.isidentifier() else "f"


def score_mod(function: Any = None, *, derivative: Any = None, check: bool = False) -> Any:
    """Make a function of scores part of the attention kernels, forward and backward.

    Its parameters that are bound to real arrays, or NumPy's scalars, are trained: they have a gradient. Python's
    numbers, and arrays that it captured, are not.

    ::

        s_ij = f(q_i . k_j, b, h, i, j, parameters)

    Parameters
    ----------
    function : function
        ``f(score, b, h, i, j, <parameters>)``: a score after its scale, the sample, the head of the query, the place of
        the query and of the key. It is called once, with symbols, and returns what it makes of the score, by operators
        and NumPy's functions on numbers. Parameters are numbers, or arrays of which it looks up elements, as
        ``table[h, i - j + 7]``.
    derivative : function, optional
        ``g(score, b, h, i, j, <parameters>)``, the derivative with respect to the score, where it is not to be that of
        f. Those with respect to parameters are made of f.
    check : bool, optional
        Compare derivatives with central differences, float64, at the first call.

    Returns
    -------
    Function
        Called with the parameters by keyword, it gives what ``attention(..., score_mod=)`` takes.

    Raises
    ------
    UnsupportedError
        When it is bound, if the function does what cannot be compiled, as a branch on a score; the message has the
        line, and what to write instead.
    ArgumentError
        In the call, if a look-up may leave its array.

    Notes
    -----
    Nothing of size (Tq, Tk) is stored. Results have the same bits in any batch, at any padding, with any number of
    threads. Work: what the function does, for each query and key. The first call compiles, for about a second; the
    result is kept in a folder, `FASTATTN_CACHE_DIR`, for other processes.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> @fastattn.score_mod
    ... def softcap(score, b, h, i, j, cap):
    ...     return cap * np.tanh(score / cap)
    >>> softcap(cap=20.0)
    softcap(cap=20.0)
    """
    return _decorated("score_mod", function, derivative, check)


def mask_mod(function: Any = None) -> Any:
    """Make a mask of a function of positions.

    ::

        allowed_ij = f(b, h, i, j, parameters)

    Parameters
    ----------
    function : function
        ``f(b, h, i, j, <parameters>)``, of the kind of `score_mod`; it returns a bool, True = may attend.

    Returns
    -------
    Function
        Called with the parameters by keyword, it gives what ``attention(..., mask=)`` takes. Masks make others by
        ``&``, ``|`` and ``~``.

    Raises
    ------
    UnsupportedError, ArgumentError
        As of `score_mod`.

    Notes
    -----
    A block of 64 queries and 64 keys that is hidden costs nothing, and one that is shown calls nothing.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> @fastattn.mask_mod
    ... def local(b, h, i, j, width):
    ...     return abs(i - j) <= width
    >>> near = local(width=64) & fastattn.mask_mod(lambda b, h, i, j: i >= j)
    >>> near.block_map(1, 1, 256, 256)[0, 0]
    array([[2, 0, 0, 0],
           [2, 2, 0, 0],
           [0, 2, 2, 0],
           [0, 0, 2, 2]], dtype=uint8)
    """
    return _decorated("mask_mod", function, None, False)


def pairwise_score(function: Any = None, *, derivative: Any = None, check: bool = False) -> Any:
    """Make a score of a function of one feature of query and key.

    ::

        s_ij = sum_d f(q_id, k_jd, parameters_d)

    Parameters
    ----------
    function : function
        ``f(q, k, <parameters>)``, of the kind of `score_mod`. A parameter is a number, or an array (D,) of which each
        feature has its own.
    derivative : function, optional
        ``g(q, k, <parameters>)``, the pair of derivatives with respect to q and k.
    check : bool, optional
        As of `score_mod`.

    Returns
    -------
    Function
        Called with the parameters by keyword, it gives what ``attention(..., score=)`` takes.

    Raises
    ------
    UnsupportedError, ShapeError
        As of `score_mod`; in the call, if a parameter has not one number for each feature.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> @fastattn.pairwise_score
    ... def l1(q, k, w):
    ...     return -w * abs(q - k)
    >>> l1(w=np.ones(8)).evaluate(np.zeros((1, 8)), np.ones((2, 8)))
    array([[-8., -8.]])
    """
    return _decorated("pairwise_score", function, derivative, check)


def row_function(function: Any = None, *, check: bool = False) -> Any:
    """Make a normalizer of a function of a whole row of scores.

    ::

        weights_i = f(s_i, b, h, i, j, parameters)

    Parameters
    ----------
    function : function
        ``f(s, b, h, i, j, <parameters>)``, of the kind of `score_mod`, which returns the weights of a row of scores:
        by operators and NumPy's functions of numbers, and by ``sum``, ``mean``, ``max`` and ``min``, methods or NumPy's
        functions, over the keys that the query may attend to, of which there are ``s.size``. Others count for nothing
        and get a weight of 0, and so do all keys of a query that may attend to none. Weights need neither sum to one
        nor be positive.
    check : bool, optional
        As of `score_mod`.

    Returns
    -------
    Function
        Called with the parameters by keyword, it gives what ``attention(..., normalizer=)`` takes. The gradients of
        parameters come back in ``Gradients.normalizer``.

    Raises
    ------
    UnsupportedError, ArgumentError
        As of `score_mod`.

    Notes
    -----
    Its numbers are of the arrays' own type. For each thread a block of rows keeps its scores, at most 768 KiB or 6 rows
    forward, and 48 rows twice in the gradients; nothing else of size (Tq, Tk) is stored. Sums run over the places of a
    key modulo 64 first, so that a row has the same bits in any batch and at any padding. A value whose weight is 0 is
    not read. A maximum that several keys have is theirs in equal parts in the gradients. Work: what the function does
    for each query and key, a second time in the gradients, and a pass over the row for each reduction that needs
    another one. In products weights below twice the smallest normal number, or that part of the row's largest weight
    where it is below 1, count as 0. Use `fastattn.normalizers.RowFunctions` for what no such function says, as a sort.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> @fastattn.row_function
    ... def softmax_one(s, b, h, i, j):
    ...     top = np.maximum(s.max(), 0)
    ...     e = np.exp(s - top)
    ...     return e / (np.exp(-top) + e.sum())
    >>> q, k = np.zeros((1, 4), np.float32), np.zeros((3, 4), np.float32)
    >>> fastattn.attention(q, k, k, normalizer=softmax_one(), return_weights=True).weights
    array([[0.25, 0.25, 0.25]], dtype=float32)
    """
    return _decorated("row_function", function, None, check)


def as_score_mod(value: Any) -> ScoreModifier:
    """Return what ``score_mod=`` is given as a modifier: one, or a function that needs no parameters."""
    found: ScoreModifier = _as("score_mod", value)
    return found


def as_mask_mod(value: Any) -> MaskFunction:
    """Return what ``mask=`` is given as a mask: one, or a function that needs no parameters."""
    found: MaskFunction = _as("mask_mod", value)
    return found


def as_row_function(value: Any) -> RowFunction:
    """Return what ``normalizer=`` is given as a function of rows: one, or a function that needs no parameters."""
    found: RowFunction = _as("row_function", value)
    return found


def as_pairwise_score(value: Any) -> PairwiseFunction:
    """Return what ``score=`` is given as a pairwise score: one, or a function that needs no parameters."""
    found: PairwiseFunction = _as("pairwise_score", value)
    return found
