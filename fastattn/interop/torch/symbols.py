"""What functions written for FlexAttention are called with: symbols that answer to PyTorch's functions.

A symbol stands for one number; what is done to it becomes a graph of `fastattn.jit`. Tensors that a function captured
become parameters of the graph where an element of them is looked up, and are given back with it. A row of a tensor is
its elements, each written out.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastattn.errors import FastattnError, UnsupportedError, describe
from fastattn.jit.symbols import Symbol, Table, Tracer
from fastattn.jit.trace import INPUTS, Traced, _same

__all__ = ["trace"]

_KINDS = {"score_mod": "score_mod", "mask_mod": "block_mask"}  # with the argument that each is


def trace(function: Callable[..., Any], kind: str) -> tuple[Traced, tuple[Tensor, ...]]:
    """Return what a function computes, and the tensors that it captured, in the order of the parameters.

    Parameters
    ----------
    function : callable
        Of (score, b, h, q_idx, kv_idx), or of (b, h, q_idx, kv_idx).
    kind : {"score_mod", "mask_mod"}
    """
    name = getattr(function, "__name__", kind)
    tracer = _Tracer(name if name.isidentifier() else kind)
    inputs = [_Number(tracer, Symbol(tracer, tracer.graph.input(one, of))) for one, of in INPUTS[kind]]
    try:
        result = tracer.symbol(function(*inputs))
    except FastattnError:
        raise
    except Exception as error:
        hint = "it is called once with symbols: use operators, PyTorch's functions on one number, and tensor[b, h]."
        got = f"{type(error).__name__}: {error}"
        raise UnsupportedError(describe(_KINDS[kind], "a function that can be compiled", got, hint)) from error
    node = tracer.node(result)
    if kind == "mask_mod":
        node = node if node.kind == "b" else tracer.node(result != 0)
    else:
        node = tracer.graph.real(node)
    parameters = tuple((f"tensor{n}", table.kind, table.ndim) for n, (_, table) in enumerate(tracer.found))
    return _same(Traced(kind, tracer.graph, node, parameters, {})), tuple(one for one, _ in tracer.found)


def _divide(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    return x // y if rounding_mode == "floor" else x / y if rounding_mode is None else (x / y).astype(int)


def _converted(x: Any, *args: Any, dtype: Any = None, **options: Any) -> Any:
    """Return a number of another kind: of `dtype`, or of what stands for it among the arguments."""
    given = [one for one in (*args, dtype) if isinstance(one, torch.dtype)]
    if not given:
        return x
    return x.astype(bool if given[0] == torch.bool else float if given[0].is_floating_point else int)


def _filled(value: Any) -> Callable[..., Any]:
    def make(x: Any, *args: Any, dtype: Any = None, **options: Any) -> Any:
        return bool(value) if dtype == torch.bool else value

    return make


def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    return np.clip(x, min, max)


def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate != "tanh":
        return x / 2 * (1 + x.tracer.apply("erf", x * math.sqrt(0.5)))
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _swapped(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, y: function(y, x)


# By PyTorch's names without underscores around them, what they make of symbols.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(np, name)
        for name in (
            "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "tanh", "arctan", "sin", "cos", "floor",
            "ceil",
            "square", "reciprocal", "sign", "minimum", "maximum", "where", "less", "less_equal", "greater",
            "greater_equal", "not_equal", "logical_and", "logical_or", "logical_not", "logical_xor", "bitwise_and",
            "bitwise_or", "bitwise_xor", "remainder", "floor_divide", "add", "subtract", "multiply", "negative",
            "positive", "absolute", "isnan", "logaddexp",
        )
    },
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "invert": np.invert, "bitwise_not": np.invert,
    "rand": np.bitwise_and, "ror": np.bitwise_or, "rxor": np.bitwise_xor,
    "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "pos": np.positive, "abs": np.absolute,
    "lshift": np.left_shift, "rshift": np.right_shift, "rlshift": _swapped(np.left_shift),
    "rrshift": _swapped(np.right_shift), "bitwise_left_shift": np.left_shift, "bitwise_right_shift": np.right_shift,
    "pow": np.power, "mod": np.remainder, "floordiv": np.floor_divide, "sgn": np.sign,
    "radd": np.add, "rmul": np.multiply, "rsub": _swapped(np.subtract), "rpow": _swapped(np.power),
    "rmod": _swapped(np.remainder), "rfloordiv": _swapped(np.floor_divide),
    "rtruediv": _swapped(_divide), "rdiv": _swapped(_divide),
    "div": _divide, "divide": _divide, "truediv": _divide, "true_divide": _divide,
    "min": np.minimum, "max": np.maximum, "clamp": _clamp, "clip": _clamp,
    "clamp_min": np.maximum, "clamp_max": np.minimum,
    "masked_fill": lambda x, mask, value: np.where(mask, value, x),
    "atan": np.arctan,
    "erf": lambda x: x.tracer.apply("erf", x),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "relu": lambda x, inplace=False: np.maximum(x, 0),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "to": _converted, "type": _converted,
    **{name: (lambda x: x.astype(float)) for name in ("float", "double", "half", "bfloat16")},
    **{name: (lambda x: x.astype(int)) for name in ("int", "long", "short")},
    "bool": lambda x: x.astype(bool),
    **{name: (lambda x, *args, **options: x) for name in ("clone", "detach", "contiguous", "type_as")},
    **{name: (lambda x, *args, **options: x) for name in ("unsqueeze", "squeeze")},
    "silu": lambda x, inplace=False: x / (1 + np.exp(-x)),
    "gelu": _gelu,
    "new_ones": _filled(1), "new_zeros": _filled(0), "ones_like": _filled(1), "zeros_like": _filled(0),
    "full_like": lambda x, value, **options: value, "new_full": lambda x, size, value, **options: value,
    "new_tensor": lambda x, value, **options: value,
}  # fmt: skip


class _Tracer(Tracer):
    """One call of a function; `found` are the tensors that it uses, each with its table."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.found: list[tuple[Tensor, Table]] = []

    def table(self, tensor: Tensor) -> Table:
        """Return the parameter that a tensor is."""
        for one, table in self.found:
            if one is tensor:
                return table
        kind = "b" if tensor.dtype == torch.bool else "f" if tensor.dtype.is_floating_point else "i"
        table = Table(self, f"tensor{len(self.found)}", len(self.found), kind, tensor.ndim, None)
        self.found.append((tensor, table))
        return table

    def symbol(self, value: Any) -> Any:
        """Return a symbol or a number of Python for an operand."""
        if isinstance(value, _Number):
            return value.symbol
        if isinstance(value, _Row):
            got = f"a row of {len(value.numbers)} numbers where one is wanted"
            raise self.refuse(got, "look up one element, or take the row's sum, any or dot.")
        if isinstance(value, Tensor):
            if value.ndim == 0 and not value.requires_grad and not math.isfinite(value):
                return value.item()  # as torch.tensor(-inf)
            return self.table(value)
        return value


class _Named:
    """What answers to PyTorch's functions by their names."""

    __slots__ = ("tracer",)
    __hash__ = None  # type: ignore[assignment]
    tracer: _Tracer

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        one = next(one for one in _flat([*args, *(kwargs or {}).values()]) if isinstance(one, _Named))
        operator = getattr(function, "_qualified_op_name", "aten::")  # of an extension, which may mean something else
        if not operator.startswith("aten::"):
            raise one.tracer.refuse(f"the operator {operator}", "write it with PyTorch's own functions.")
        return _called(one.tracer, function.__name__, args, kwargs or {})

    def call(self, name: str, args: Any, kwargs: Any) -> Any:
        """Return what a function or a method of PyTorch makes of its arguments."""
        return _called(self.tracer, name, args, kwargs)


def _called(tracer: _Tracer, name: str, args: Any, kwargs: Any) -> Any:
    plain = name.strip("_")
    if plain == "getitem":
        return _element(tracer, *args)
    if any(isinstance(one, _Row) for one in args):
        return _of_rows(tracer, plain, args, kwargs)
    function = _FUNCTIONS.get(plain)
    if function is None:
        known = ", ".join(sorted(_FUNCTIONS))
        raise tracer.refuse(f"torch's {plain}", f"write it with operators and these: {known}.")
    symbols = [tracer.symbol(one) for one in args]
    if not isinstance(symbols[0], Symbol):
        symbols[0] = Symbol(tracer, tracer.node(symbols[0]))
    made = function(*symbols, **{key: tracer.symbol(one) for key, one in kwargs.items()})
    return _Number(tracer, made if isinstance(made, Symbol) else Symbol(tracer, tracer.node(made)))


def _element(tracer: _Tracer, table: Any, index: Any) -> Any:
    """Return an element of a tensor, or a row of one where the last index is left out."""
    given = index if isinstance(index, tuple) else (index,)
    if isinstance(table, _Row) and len(given) == 1 and isinstance(index, int):
        return table.numbers[index]
    if isinstance(table, Tensor) and len(given) == table.ndim - 1 and table.shape[-1] <= _LONGEST_ROW:
        return _Row(tracer, [_element(tracer, table, (*given, n)) for n in range(table.shape[-1])])
    if not isinstance(table, Tensor) or len(given) < table.ndim:
        got = f"a tensor of {table.ndim} axes with {len(given)} indices"
        hint = f"look up one element: {table.ndim} indices, as tensor[b, h]; or a row of at most {_LONGEST_ROW}."
        raise tracer.refuse(got, hint)
    return _Number(tracer, tracer.symbol(table)[tuple(tracer.symbol(one) for one in given)])


_LONGEST_ROW = 256  # of which each element is written out in the compiled code
_REDUCTIONS = {"sum": "add", "any": "or", "all": "and", "amax": "max", "amin": "min"}


def _of_rows(tracer: _Tracer, name: str, args: Any, kwargs: Any) -> Any:
    """Return what a function makes of rows: of one its sum, of two their product, and else of each element."""
    if name in ("dot", "inner", "matmul", "vdot"):
        return _of_rows(tracer, "sum", [_of_rows(tracer, "mul", args, kwargs)], {})
    length = next(len(one.numbers) for one in args if isinstance(one, _Row))
    if name in _REDUCTIONS:
        if [*args[1:], *kwargs.values()] not in ([], [-1], [0]):
            raise tracer.refuse(f"torch's {name} with {kwargs or args[1:]}", "a row has one axis: leave dim out.")
        return functools.reduce(lambda x, y: _called(tracer, _REDUCTIONS[name], (x, y), {}), args[0].numbers)
    if any(isinstance(one, _Row) and len(one.numbers) != length for one in args):
        raise tracer.refuse("rows of different lengths", "take rows of one length.")
    each = [[one.numbers[n] if isinstance(one, _Row) else one for one in args] for n in range(length)]
    return _Row(tracer, [_called(tracer, name, one, kwargs) for one in each])


class _Number(_Named):
    """A number that is known when the compiled function runs, as PyTorch's functions take it."""

    __slots__ = ("symbol",)

    def __init__(self, tracer: _Tracer, symbol: Symbol) -> None:
        self.tracer = tracer
        self.symbol = symbol

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in _FUNCTIONS:
            raise AttributeError(f"a number that is not known yet has no attribute {name!r}")
        return lambda *args, **kwargs: self.call(name, (self, *args), kwargs)

    @property
    def dtype(self) -> torch.dtype:
        """float32 of scores, int64 of places."""
        return {"f": torch.float32, "i": torch.int64, "b": torch.bool}[self.symbol.node.kind]

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def shape(self) -> torch.Size:
        """That of one number."""
        return torch.Size()

    ndim = 0

    def __bool__(self) -> bool:
        hint = "write torch.where(condition, this, that), and `a & b` for `a and b`."
        raise self.tracer.refuse("a branch on a value that is not known yet", hint)


class _Row(_Named):
    """A row of a tensor, or what was made of rows."""

    __slots__ = ("numbers",)

    def __init__(self, tracer: _Tracer, numbers: list[Any]) -> None:
        self.tracer = tracer
        self.numbers = numbers

    def __getitem__(self, index: Any) -> Any:
        return _element(self.tracer, self, index)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in (*_FUNCTIONS, *_REDUCTIONS, "dot"):
            raise AttributeError(f"a row of a tensor has no attribute {name!r}")
        return lambda *args, **kwargs: self.call(name, (self, *args), kwargs)

    ndim = 1


def _flat(values: Any) -> Any:
    for one in values:
        if isinstance(one, (tuple, list)):
            yield from _flat(one)
        else:
            yield one


def _operator(name: str, reflected: str | None = None) -> Any:
    def method(self: _Named, *others: Any) -> Any:
        return self.call(name, (self, *others), {})

    def swapped(self: _Named, other: Any) -> Any:
        return self.call(name, (other, self), {})

    return swapped if reflected else method


_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift")
for _name in (*_BINARY, "lt", "le", "gt", "ge", "eq", "ne", "neg", "pos", "abs", "invert"):
    setattr(_Named, f"__{_name}__", _operator(_name))
for _name in _BINARY:
    setattr(_Named, f"__r{_name}__", _operator(_name, "reflected"))
