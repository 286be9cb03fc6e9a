"""Small array libraries that are not NumPy, for tests of what goes in and out as an array."""

import sys

import numpy as np


class Exchanged:
    """An array known by DLPack alone; its library is found by its namespace."""

    def __init__(self, held, device=(1, 0), requires_grad=False):
        self.held, self.device, self.requires_grad = held, device, requires_grad

    @property
    def dtype(self):
        return f"others.{self.held.dtype.name}"

    def view(self, dtype):
        """Return the same bits as of another type."""
        return Exchanged(self.held.view(dtype.removeprefix("others.")), self.device, self.requires_grad)

    def __dlpack__(self, **options):
        if self.requires_grad:
            raise BufferError("cannot export what records gradients")
        return self.held.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device

    def __array_namespace__(self, api_version=None):
        return sys.modules[__name__]


class Interface:
    """An array known by ``__array_interface__`` alone."""

    def __init__(self, held):
        self.held = held

    @property
    def __array_interface__(self):
        return self.held.__array_interface__


class Copying:
    """One that can only be copied: what is written to the copy is lost."""

    def __init__(self, held):
        self.held = held

    def __array__(self, dtype=None, copy=None):
        return np.array(self.held, dtype)


class OnCuda:
    """One that tells where it is on a device of CUDA, and nothing else."""

    @property
    def __cuda_array_interface__(self):
        return {"shape": (2, 3, 4), "typestr": "<f4", "data": (0, True), "version": 3}


int16 = "others.int16"


def from_dlpack(array):
    """Return an array of this library."""
    return Exchanged(np.from_dlpack(array))


def numpy_of(found):
    """Return what a call gave as NumPy's arrays."""
    if isinstance(found, tuple):
        return tuple(numpy_of(x) for x in found)
    if isinstance(found, dict):
        return {name: numpy_of(x) for name, x in found.items()}
    return found.held if isinstance(found, (Exchanged, Interface, Copying)) else found
