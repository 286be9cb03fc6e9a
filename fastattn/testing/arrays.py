"""What checks share: bits, poison, strides, threads, a forked child, central differences."""

import contextlib
import hashlib
import os
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import fastattn.config as config
from fastattn._arrays import Array
from fastattn.errors import DTypeError, FastattnError, describe
from fastattn.layers import Parameter
from fastattn.plugin.records import Record
from fastattn.testing.certificate import Skipped

__all__ = [
    "Array",
    "assigned",
    "close",
    "differences",
    "fill",
    "flatten",
    "in_a_child",
    "padded",
    "refused",
    "same",
    "strided",
    "threads",
    "untouched",
]


def flatten(result: Any) -> list[Array]:
    """Return all arrays of an output, of gradients, or of anything nested, in order."""
    if result is None:
        return []
    if isinstance(result, np.ndarray):
        return [result]
    if isinstance(result, Mapping):
        return [array for name in sorted(result) for array in flatten(result[name])]
    return [array for part in result for array in flatten(part)]


def same(left: Any, right: Any, what: str) -> None:
    """Fail unless two results have the same shapes, dtypes and bits."""
    a, b = flatten(left), flatten(right)
    assert len(a) == len(b), f"{what}: {len(a)} arrays, not {len(b)}"
    for one, other in zip(a, b):
        assert one.shape == other.shape, f"{what}: shape {one.shape}, not {other.shape}"
        assert one.dtype == other.dtype, f"{what}: {one.dtype}, not {other.dtype}"
        if one.tobytes() != other.tobytes():
            apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
            apart = apart[apart == apart]
            wrong = int((one.view(f"u{one.itemsize}") != other.view(f"u{one.itemsize}")).sum()) if one.ndim else 1
            raise AssertionError(f"{what}: {wrong} of {one.size} elements differ, by up to {apart.max(initial=0):.3g}")


def close(got: Array, wanted: Array, room: float, what: str) -> float:
    """Fail unless arrays agree to `room`, relative to the largest element; return the largest difference."""
    assert got.shape == wanted.shape, f"{what}: shape {got.shape}, not {wanted.shape}"
    assert np.isfinite(got).all(), f"{what}: not finite"
    size = max(1.0, float(np.abs(wanted).max(initial=0)))
    apart = float(np.abs(got - wanted).max(initial=0)) / size
    assert apart <= room, f"{what}: off by {apart:.3g}, at most {room:.3g} is right"
    return apart


def refused(what: str, call: Callable[..., object], *arguments: Any) -> None:
    """Fail unless a call raises an error of fastattn."""
    try:
        call(*arguments)
    except FastattnError:
        return
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}, not an error of fastattn") from error
    raise AssertionError(f"{what} was taken")


def padded(array: Array, more: Mapping[int, tuple[int, int]], value: float | None = 0) -> Array:
    """Return an array with so many more rows before and after along some axes: of a value, or None: as at its ends."""
    widths = [more.get(axis, (0, 0)) for axis in range(array.ndim)]
    return np.pad(array, widths, "edge") if value is None else np.pad(array, widths, constant_values=value)


def differences(function: Callable[[], float], array: Array, step: float = 1e-6) -> Array:
    """Return the gradient of a scalar function of an array by central differences; the array is restored.

    Of five points: with three the quotient of features, x / y near y = 0, is off by 3e-6, with five by 2e-9.
    """
    gradient = np.zeros(array.shape)
    for at in np.ndindex(array.shape):
        kept = array[at]
        for steps, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            array[at] = kept + steps * step
            gradient[at] += weight * function()
        array[at] = kept
    gradient /= 12 * step
    return gradient


def assigned(parameters: Mapping[str, Parameter], function: Callable[[], Any]) -> tuple[dict[str, Array], Any]:
    """Return copies of the values of parameters, and the function with these assigned for the time of each call."""
    values = {name: parameter.value.copy() for name, parameter in parameters.items()}

    def call() -> Any:
        before = {name: parameter.value.copy() for name, parameter in parameters.items()}
        for name, parameter in parameters.items():
            parameter.assign(values[name])
        try:
            return function()
        finally:
            for name, parameter in parameters.items():
                parameter.assign(before[name])

    return values, call


def strided(array: Array) -> Array:
    """Return the same array with other strides, every axis among them, at an odd place of memory."""
    wide = np.full([2 * n + 1 for n in array.shape], np.nan if array.dtype.kind == "f" else 0).astype(array.dtype)
    wide = np.asfortranarray(wide)
    view: Array = wide[tuple(slice(2 * n - 1, None, -2) if n else slice(0, 0) for n in array.shape)]
    view[...] = array
    return view


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with a number of threads inside a ``with`` block."""
    before = config.get_num_threads()
    config.set_num_threads(number)
    try:
        yield
    finally:
        config.set_num_threads(before)


@contextlib.contextmanager
def untouched(**arrays: Array | None) -> Iterator[None]:
    """Fail if a bit of an array changed inside a ``with`` block, or an array was written that may only be read."""
    before = {name: array.tobytes() for name, array in arrays.items() if array is not None}
    given = {name: array for name, array in arrays.items() if array is not None}
    flags = {name: array.flags.writeable for name, array in given.items()}
    try:
        yield
        for name, array in given.items():
            assert array.tobytes() == before[name], f"{name} was written"
        for array in given.values():
            array.flags.writeable = False
    finally:
        for name, array in given.items():
            if flags[name]:
                array.flags.writeable = True


def digest(result: Any) -> bytes:
    """Return a hash of the bits of all arrays."""
    found = hashlib.sha256()
    for array in flatten(result):
        found.update(f"{array.shape}{array.dtype}".encode() + array.tobytes())
    return found.digest()


def in_a_child(function: Callable[[], Any]) -> bytes:
    """Return the hash of what a function returns in a forked child of this process."""
    if not hasattr(os, "fork"):
        raise Skipped("there is no fork here")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            os.write(writer, digest(function()))
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        got = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0 and got, f"a forked child failed: status {status}"
    return got


def fill(example: Mapping[str, Any], rng: np.random.Generator, query: int, memory: int, dtype: Any) -> dict[str, Any]:
    """Return options of an example, functions among them replaced by what they draw."""
    return {name: value(rng, query, memory, dtype) if callable(value) else value for name, value in example.items()}


def as_record(subject: Any, kind: type[Record], base: type) -> Record:
    """Return a record for what was handed to the kit: a record, a class or a function."""
    if isinstance(subject, Record):
        return subject
    if callable(subject):
        name = getattr(subject, "name", "") or getattr(subject, "__name__", type(subject).__name__)
        return kind(name, subject)
    expected = f"a {kind.__name__}, a class or a function that makes a {base.__name__}"
    hint = f"pass fastattn.{base.__name__.lower()}s.record(name) for one that has a name."
    raise DTypeError(describe("subject", expected, reprlib.repr(subject), hint))
