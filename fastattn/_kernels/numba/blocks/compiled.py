"""From a Python function to machine code: for float32 and for float64, each when it is first called, kept on disk.

A kernel's signature is written out, so that one form is compiled for arrays that may or may not be written to or are
laid out in another way, and a call never compiles a second one.
"""

import hashlib
import pickle
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite
import numba
import numpy as np
from numba import types
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from fastattn._kernels import kept

__all__ = ["Kernel", "inlined", "kernel"]

_COMPILING = threading.RLock()
_SCALARS = {"i": types.int64, "d": types.float64, "u": types.uint64, "b": types.uint8}
_OPTIONS: dict[str, Any] = {"error_model": "numpy"}


class _Kept:
    """What Numba's dispatcher asks for compiled kernels before it compiles one, and gives them to afterwards.

    Numba's own cache neither looks at whose its folder is nor at whether its files are whole, and looks for another
    folder where it cannot write.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__}.{function.__qualname__}"

    def _file(self, signature: Any, context: Any) -> str:
        made_of = (_sources(), self._name, str(signature), *map(str, context.codegen().magic_tuple()))
        return f"{hashlib.sha256(chr(0).join(made_of).encode()).hexdigest()}.kernel"

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return the kernel from the disk, or None."""
        context.refresh()
        found = kept.read(self._file(signature, context))
        return None if found is None else CompileResult._rebuild(context, *pickle.loads(found))

    def save_overload(self, signature: Any, made: Any) -> None:
        """Put a kernel on the disk, unless it holds addresses of this process."""
        if not made.library.has_dynamic_globals:
            kept.write(self._file(signature, made.target_context), dumps(made._reduce()))


@cache
def _sources() -> str:
    """Return what names the sources and the versions that kernels are made by: one that is kept holds what it calls."""
    versions = (numba.__version__, llvmlite.__version__, np.__version__, sys.implementation.cache_tag)
    found = hashlib.sha256(repr(versions).encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


def _compiled(function: Callable[..., Any], signature: Any) -> Any:
    """Return the function compiled, from the disk if it is there."""
    made: Any = numba.njit(nogil=True, **_OPTIONS)(function)
    made._cache = _Kept(function)
    made.compile(signature)
    made.disable_compile()
    return made


def _type_of(token: str, real: Any) -> Any:
    """Return the Numba type of a token: a letter, of arrays with the number of axes, "~" where they have strides and
    "!" where they are written."""
    scalar = real if token[0] == "x" else _SCALARS[token[0]]
    if len(token) == 1:
        return scalar
    return types.Array(scalar, int(token[1]), "A" if "~" in token else "C", readonly="!" not in token)


class Kernel:
    """A function of arrays, compiled for an element type when that is first asked for."""

    def __init__(self, function: Callable[..., Any], tokens: tuple[Any, ...]) -> None:
        self.function = function
        self._tokens = tokens
        self._forms: dict[str, Callable[..., Any]] = {}

    def __getitem__(self, dtype: "np.dtype[Any]") -> Callable[..., Any]:
        form = self._forms.get(dtype.char)
        return self._compile(dtype) if form is None else form

    def _compile(self, dtype: "np.dtype[Any]") -> Callable[..., Any]:
        with _COMPILING:
            if dtype.char not in self._forms:
                real = types.float32 if dtype.char == "f" else types.float64
                arguments = tuple(
                    _type_of(token, real)
                    if isinstance(token, str)
                    else types.NamedUniTuple(types.int64, len(token._fields), token)
                    for token in self._tokens
                )
                self._forms[dtype.char] = _compiled(self.function, arguments)
            return self._forms[dtype.char]


def kernel(*arguments: "str | type[NamedTuple]") -> Callable[[Callable[..., Any]], Kernel]:
    """Decorate a kernel with the types of its arguments: tokens in strings, parted by spaces, and named tuples of
    integers.

    A token is x (the element type), d (float64), i (int64), u (uint64) or b (uint8), for an array with the number of
    its axes; "~": of any strides, "!": it is written.
    """
    tokens: list[Any] = []
    for argument in arguments:
        tokens += argument.split() if isinstance(argument, str) else [argument]
    return lambda function: Kernel(function, tuple(tokens))


def inlined(function: Callable[..., Any]) -> Any:
    """Decorate what kernels call."""
    return numba.njit(function, **_OPTIONS)
