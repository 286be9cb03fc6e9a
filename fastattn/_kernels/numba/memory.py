"""Memory of arrays. Nothing is kept beside what NumPy keeps: what the compiled module does for time is left out."""

import math
from typing import Any

import numpy as np

from fastattn._kernels.numba.checks import Array

__all__ = ["KeptMemory", "aligned_empty", "empty", "lasting", "memory_kept", "memory_limit", "unit"]


def unit(a: Array, last_axis: bool = True) -> Array:
    """Return the array itself if kernels can read it in place, else a contiguous copy: whole elements apart, aligned,
    in native byte order, and its last axis, if that matters, of unit stride."""
    if a.flags.c_contiguous and a.flags.aligned and a.dtype.isnative:
        return a
    rows = not last_axis or a.ndim == 0 or a.shape[-1] <= 1 or a.strides[-1] == a.itemsize
    if rows and a.flags.aligned and a.dtype.isnative and not any(step % a.itemsize for step in a.strides):
        return a
    return a.astype(a.dtype.newbyteorder("="), order="C", copy=True)


def aligned_empty(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    """Return an uninitialised array that starts on a 64-byte boundary."""
    size = math.prod(shape) * dtype.itemsize
    space = np.empty(size + 64, np.uint8)
    offset = -space.__array_interface__["data"][0] % 64  # what its ctypes attribute takes 20 us to say
    return space[offset : offset + size].view(dtype).reshape(shape)


class KeptMemory:
    """A block in which the compiled module would keep the memory of arrays; here nothing changes."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *error: object) -> None:
        return None


def empty(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    """Return an uninitialised array."""
    return np.empty(shape, dtype)


def lasting(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
    """Return zeros."""
    return np.zeros(shape, dtype)


def memory_kept() -> int:
    """Return how many bytes are kept and in no array."""
    return 0


class _Limit:
    bytes = 256 << 20


def memory_limit(size: int) -> int:
    """Set how many bytes may be kept; return the limit before."""
    before, _Limit.bytes = _Limit.bytes, size
    return before
