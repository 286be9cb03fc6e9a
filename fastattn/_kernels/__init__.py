"""The kernels, as ``core``: one extension module over the C library in csrc/, or the same functions in Numba.

``core`` checks all that the kernels trust, unpacks arrays, releases the interpreter lock, makes one call and turns its
status into an exception. It is private: callers say what is wrong with an argument in the argument's own words.

The extension module is used where it is there. ``FASTATTN_BACKEND``, "c" or "numba", says which one it must be.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from fastattn.errors import describe

__all__ = ["core"]


def _choose(wanted: str) -> Any:
    if wanted not in ("", "c", "numba"):
        hint = "unset it to use the compiled module where it is there."
        raise ImportError(describe("FASTATTN_BACKEND", "'c' or 'numba'", repr(wanted), hint))
    if wanted != "numba":
        try:
            return importlib.import_module("fastattn._kernels.core")
        except ModuleNotFoundError as error:
            if error.name != "fastattn._kernels.core":
                raise
        if wanted == "c":
            here = __file__.removesuffix("__init__.py")
            hint = "after 'pip install .' start Python elsewhere, or build here: python setup.py build_ext --inplace."
            raise ImportError(describe("fastattn", f"its compiled module in {here}", "none", hint)) from None
    level = os.environ.get("FASTATTN_ISA", "")
    if level not in ("", "numba"):
        hint = "unset FASTATTN_ISA, or FASTATTN_BACKEND."
        raise ImportError(describe("FASTATTN_ISA", "no level with the backend numba", repr(level), hint))
    return importlib.import_module("fastattn._kernels.numba")


if TYPE_CHECKING:
    from fastattn._kernels import core
else:
    core = _choose(os.environ.get("FASTATTN_BACKEND", ""))
