"""The two passes as foreign functions of XLA: a compiled program calls them on its own buffers.

A handler is a C function that XLA gives a frame: buffers of inputs and outputs, and attributes. These are made by
ctypes from functions of Python, after the layout of the interface in C that comes with JAX (xla/ffi/api/c_api.h,
version 0.3, which newer ones extend), so that arrays are neither copied nor waited for, as a callback of JAX would.
Only the lock of the interpreter is needed, which the kernels release. Plain calls do not get here: the compiled module
has handlers for them that need no interpreter (csrc/run/xla.c), and leaves to these what they do not do.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Final

import jax
import numpy as np

from fastattn._arrays import Array
from fastattn._kernels import core
from fastattn.interop.jax.problem import Problem

__all__ = ["BACKWARD", "FORWARD"]

FORWARD: Final = "fastattn_attention_forward"
BACKWARD: Final = "fastattn_attention_backward"

_VERSION = (0, 3)
_INVALID_ARGUMENT, _STRING, _METADATA = 3, 4, 1  # of XLA's enumerations
_TYPES = {1: "|b1", 4: "=i4", 5: "=i8", 8: "=u4", 9: "=u8", 11: "=f4", 12: "=f8"}


class _Buffer(ctypes.Structure):
    _fields_: ClassVar = [
        ("size", ctypes.c_size_t), ("extension", ctypes.c_void_p), ("dtype", ctypes.c_int), ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64), ("dims", ctypes.POINTER(ctypes.c_int64)),
    ]  # fmt: skip


class _Span(ctypes.Structure):
    _fields_: ClassVar = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Buffers(ctypes.Structure):
    _fields_: ClassVar = [
        ("size", ctypes.c_size_t), ("extension", ctypes.c_void_p), ("count", ctypes.c_int64),
        ("types", ctypes.POINTER(ctypes.c_int)), ("buffers", ctypes.POINTER(ctypes.POINTER(_Buffer))),
    ]  # fmt: skip


class _Attributes(ctypes.Structure):
    _fields_: ClassVar = [
        ("size", ctypes.c_size_t), ("extension", ctypes.c_void_p), ("count", ctypes.c_int64),
        ("types", ctypes.POINTER(ctypes.c_int)), ("names", ctypes.POINTER(ctypes.POINTER(_Span))),
        ("values", ctypes.POINTER(ctypes.POINTER(_Span))),
    ]  # fmt: skip


class _Version(ctypes.Structure):
    _fields_: ClassVar = [
        ("size", ctypes.c_size_t), ("extension", ctypes.c_void_p), ("major", ctypes.c_int), ("minor", ctypes.c_int)
    ]  # fmt: skip


class _Metadata(ctypes.Structure):
    _fields_: ClassVar = [("size", ctypes.c_size_t), ("version", _Version), ("traits", ctypes.c_uint32)]


class _Extension(ctypes.Structure):
    _fields_: ClassVar = [
        ("size", ctypes.c_size_t), ("type", ctypes.c_int), ("next", ctypes.c_void_p),
        ("metadata", ctypes.POINTER(_Metadata)),
    ]  # fmt: skip


class _Error(ctypes.Structure):
    _fields_: ClassVar = [
        ("size", ctypes.c_size_t), ("extension", ctypes.c_void_p), ("message", ctypes.c_char_p), ("code", ctypes.c_int)
    ]  # fmt: skip


class _Api(ctypes.Structure):
    _fields_: ClassVar = [
        ("size", ctypes.c_size_t), ("extension", ctypes.c_void_p), ("version", _Version), ("internal", ctypes.c_void_p),
        ("error_create", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Error))),
    ]  # fmt: skip


class _Frame(ctypes.Structure):
    _fields_: ClassVar = [
        ("size", ctypes.c_size_t), ("extension", ctypes.POINTER(_Extension)), ("api", ctypes.POINTER(_Api)),
        ("context", ctypes.c_void_p), ("stage", ctypes.c_int), ("arguments", _Buffers), ("results", _Buffers),
        ("attributes", _Attributes), ("future", ctypes.c_void_p),
    ]  # fmt: skip


class _Memory:
    """What NumPy needs to see a buffer as an array."""

    def __init__(self, buffer: _Buffer, writable: bool) -> None:
        shape = tuple(buffer.dims[: buffer.rank])
        # An empty buffer may have no address.
        self.__array_interface__ = {
            "version": 3, "shape": shape, "typestr": _TYPES[buffer.dtype],
            "data": (buffer.data or 64, not writable),
        }  # fmt: skip


def _arrays(buffers: _Buffers, writable: bool) -> list[Array]:
    every = buffers.buffers
    return [np.asarray(_Memory(every[i].contents, writable)) for i in range(buffers.count)]


def _attribute(attributes: _Attributes, wanted: str) -> str:
    """Return an attribute that is a string."""
    for i in range(attributes.count):
        name, value = attributes.names[i].contents, attributes.values[i].contents
        if attributes.types[i] == _STRING and ctypes.string_at(name.data, name.length) == wanted.encode():
            return ctypes.string_at(value.data, value.length).decode()
    raise KeyError(wanted)


_Handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_Frame))


def _handler(run: Callable[[Problem, list[Array], list[Array]], None]) -> Any:
    """Return a function as XLA calls it."""

    def handle(pointer: Any) -> int | None:
        frame = pointer.contents
        if frame.extension and frame.extension.contents.type == _METADATA:  # what is asked when it is registered
            version = frame.extension.contents.metadata.contents.version
            version.major, version.minor = _VERSION
            return None
        try:
            given, out = _arrays(frame.arguments, False), _arrays(frame.results, True)
            run(Problem.of(_attribute(frame.attributes, "problem")), given, out)
        except BaseException as error:
            message = f"{type(error).__name__}: {error}".encode(errors="replace")
            made = _Error(ctypes.sizeof(_Error), None, message, _INVALID_ARGUMENT)
            created: int | None = frame.api.contents.error_create(ctypes.byref(made))
            return created
        return None

    return _Handler(handle)


_HANDLERS = _handler(Problem.forward), _handler(Problem.backward)  # kept as long as XLA may call
_ADDRESSES = core.xla_handlers(*(ctypes.cast(handler, ctypes.c_void_p).value or 0 for handler in _HANDLERS))
for _name, _address in zip((FORWARD, BACKWARD), _ADDRESSES):
    jax.ffi.register_ffi_target(_name, jax.ffi.pycapsule(_address), platform="cpu")
assert sys.byteorder == "little"
