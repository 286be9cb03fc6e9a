"""Memory of arrays that is used again, in place of new pages from the system at each step of training."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from fastattn._kernels import core

__all__ = ["in_kept_memory", "release"]

P = ParamSpec("P")
R = TypeVar("R")


def in_kept_memory(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function: arrays of at least 64 KB that it makes, NumPy's results too, are made of kept memory.

    They are ordinary arrays, which may outlive the call. When one goes, its memory is kept for the next of about its
    size, up to 256 MB in the process, the longest unused given back first.
    """

    @functools.wraps(function)
    def kept(*args: P.args, **options: P.kwargs) -> R:
        with core.KeptMemory():
            return function(*args, **options)

    return kept


def release() -> None:
    """Give back all memory that is kept and in no array."""
    core.memory_limit(core.memory_limit(0))
