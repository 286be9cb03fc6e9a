"""A normalizer from outside: two functions on one row, called by the kernels."""

import ctypes
import importlib
import sys
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from fastattn.errors import DTypeError, UnsupportedError, describe
from fastattn.normalizers.base import KernelNormalizer, Normalizer

__all__ = ["RowFunctions"]


@dataclass(frozen=True, eq=False)
class RowFunctions(Normalizer):
    """Weights of a row, and their gradient, by compiled functions of yours.

    ::

        void weights(const double *scores, double *weights, int64_t n)
        void gradient(const double *scores, const double *weights, const double *d_weights, double *d_scores, int64_t n)

    A row has the n >= 1 keys that its query may read, in their order; what is masked is not among them, and a row
    without keys never comes. Both run without the GIL, on several threads, and must not allocate, raise or keep
    anything; what they write depends on what they read alone.

    Parameters
    ----------
    weights, gradient : int, or an object with an ``address``
        Where the functions are: of Numba, ``numba.cfunc("void(CPointer(f8), CPointer(f8), i8)")(function)``, and for
        the gradient ``"void(CPointer(f8), CPointer(f8), CPointer(f8), CPointer(f8), i8)"``; of ctypes and Cython, the
        address as an integer. They must live as long as this object. An object that a module holds under the name of
        its Python function goes to other processes by that name; an address means nothing there and does not go.

    Notes
    -----
    Scores are made, and weights summed, by the kernels of sparse normalizers: a block of rows keeps its scores, and
    nothing else of that size is stored. Rows come in float64, and a function is called for each: with a logarithm and
    two exponentials a key in Numba, six times the time of softmax (`plugins/fastattn-smooth`, 50 keys, width 64).

    Examples
    --------
    Weights in proportion to ``exp(score)``, as softmax, in Numba::

        @numba.cfunc("void(CPointer(f8), CPointer(f8), i8)")
        def weights(scores, weights, n):
            ...
        fastattn.attention(q, k, v, normalizer=RowFunctions(weights, gradient))
    """

    name: ClassVar[str] = "row_functions"
    weights: Any
    gradient: Any
    _kernel: KernelNormalizer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Find the addresses."""
        addresses = address("weights", self.weights), address("gradient", self.gradient)
        object.__setattr__(self, "_kernel", KernelNormalizer(None, *addresses, (self.weights, self.gradient)))

    def __copy__(self) -> Self:
        return self  # nothing of it changes

    def __deepcopy__(self, memo: Any) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (_Named.of("weights", self.weights), _Named.of("gradient", self.gradient))

    def kernel(self, query_shape: tuple[int, ...]) -> KernelNormalizer:
        """Return the functions' addresses."""
        return self._kernel


class _Named:
    """A compiled function by the name under which a module holds it: it unpickles as that function."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    @classmethod
    def of(cls, argument: str, function: Any) -> "_Named":
        """Find the name of a function, or raise."""
        python = getattr(function, "__wrapped__", function)
        module, name = str(getattr(python, "__module__", "")), str(getattr(python, "__qualname__", ""))
        if _held(module, name) is not function:
            hint = "define it in a module, where a `numba.cfunc` keeps the name of its Python function."
            got = f"{name or function!r}, which no module holds by that name"
            raise UnsupportedError(describe(argument, "a function that another process can import", got, hint))
        return cls(module, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _imported, (self.module, self.name)


def _held(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _imported(module: str, name: str) -> Any:
    importlib.import_module(module)
    return _held(module, name)


def address(name: str, function: Any) -> int:
    """Return the address of a compiled function, or raise a `DTypeError`."""
    found = getattr(function, "address", function)
    if isinstance(function, ctypes._CFuncPtr):  # type: ignore[attr-defined]
        found = ctypes.cast(function, ctypes.c_void_p).value
    if isinstance(found, bool) or not isinstance(found, int) or not 0 < found <= 2 * sys.maxsize + 1:
        hint = "pass a numba.cfunc, or the address of a C function."
        raise DTypeError(describe(name, "a compiled function", type(function).__name__, hint))
    return found
