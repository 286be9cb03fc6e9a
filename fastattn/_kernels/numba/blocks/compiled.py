"""From a Python function to machine code: for float32 and for float64, each when it is first called, kept on disk.

A kernel's signature is written out, so that one form is compiled for arrays that may or may not be written to or are
laid out in another way, and a call never compiles a second one.
"""

import hashlib
import os
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

__all__ = ["Kernel", "cache_folder", "inlined", "kernel"]

_COMPILING = threading.RLock()
_SCALARS = {"i": types.int64, "d": types.float64, "u": types.uint64, "b": types.uint8}


def cache_folder() -> Path | None:
    """Return where compiled kernels are kept, or None: only in memory."""
    given = os.environ.get("FASTATTN_CACHE_DIR")
    if given is not None:
        return Path(given) if given else None
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    elif sys.platform == "darwin":
        base = os.path.expanduser("~/Library/Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "") or os.path.expanduser("~/.cache")
    return Path(base, "fastattn") if os.path.isabs(base) else None


def _stamp() -> str:
    """Return what names the sources that kernels are made of: one that is kept holds what it calls, too."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _compiled(function: Callable[..., Any], signature: Any, **options: Any) -> Any:
    """Return the function compiled, from the disk if it is there, or for this process alone."""
    folder = cache_folder()
    options = {"error_model": "numpy", "nogil": True, **options}
    if folder is not None:
        settings: Any = numba.config
        before = settings.CACHE_DIR
        try:
            settings.CACHE_DIR = str(folder / f"kernels-{_STAMP}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a cache that cannot be written is none
                return numba.njit(signature, cache=True, **options)(function)
        except Exception:  # no place to write, or a file that another program damaged
            pass
        finally:
            settings.CACHE_DIR = before
    return numba.njit(signature, **options)(function)


_STAMP = _stamp()


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
    return numba.njit(function, error_model="numpy")
