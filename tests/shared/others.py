"""Small array libraries that are not NumPy, for tests of what goes in and out as an array."""

import sys

import numpy as np


class Exchanged:
    """An array known by DLPack alone; its library is found by its namespace."""

    def __init__(self, held, device=(1, 0)):
        self.held, self.device = held, device

    def __dlpack__(self, **options):
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
