"""Arguments to arrays: what every public function accepts as one."""

import reprlib
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn._optional import need
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe

Array = NDArray[Any]

# Devices whose memory the CPU reads, by DLPack's numbers: its own, and host memory that CUDA or ROCm pinned.
_OF_THE_CPU = frozenset({1, 3, 11})

__all__ = [
    "as_array",
    "cast",
    "entmax_alpha",
    "float_array",
    "float_axes",
    "float_dtype",
    "frozen",
    "gradient_array",
    "index_array",
    "is_half",
    "like",
    "name_of",
    "narrowed",
    "output_array",
    "read_only",
    "row_array",
    "type_word",
    "wide_array",
    "widened",
]


def as_array(name: str, value: object) -> Array:
    """Return the argument called `name` as an array, or raise.

    An array of another library that lies in the CPU's memory is seen through one of NumPy's, without a copy.
    """
    if type(value) is np.ndarray:
        return value
    masked = sys.modules.get("numpy.ma")  # loaded if such an array exists
    if masked is not None and isinstance(value, masked.MaskedArray):  # np.asarray would drop its mask in silence
        hint = "pass its .data, and what may be attended to as mask= (True = may attend, ~array.mask)."
        raise DTypeError(describe(name, "a plain array", "a masked array", hint))
    given: Any = value
    kind = type(value)
    try:
        if hasattr(kind, "__dlpack__"):
            device = int(given.__dlpack_device__()[0])
            if device not in _OF_THE_CPU:  # some have an __array__ that would copy it from there in silence
                raise BufferError(f"on device {device} of DLPack")
            dtype = getattr(given, "dtype", None)
            if str(dtype).endswith("bfloat16") and not isinstance(dtype, np.dtype):
                return _of_bfloat16(given)
            if not hasattr(kind, "__array__") and not hasattr(kind, "__array_interface__"):
                return np.from_dlpack(given)
        elif hasattr(given, "__cuda_array_interface__"):
            raise BufferError("on a device of CUDA")
        return np.asarray(given)
    except (AttributeError, BufferError, TypeError, ValueError, RuntimeError) as error:
        got = f"{kind.__name__} ({str(error).rstrip('.')})"
        hint = "pass numbers in rows of one length."
        if kind.__name__.endswith("Tracer"):
            hint = "call fastattn.interop.jax, which JAX can trace."
        elif "device" in str(error):
            hint = "copy it to the CPU first: x.cpu() or jax.device_get(x)."
        elif getattr(given, "requires_grad", False):
            hint = "call fastattn.interop.torch, which records gradients, or pass x.detach()."
        elif hasattr(kind, "__dlpack__"):
            hint = "convert it first to a type and a layout that NumPy has: float32 and dense, say."
        raise DTypeError(describe(name, "an array", got, hint)) from None


def _of_bfloat16(given: Any) -> Array:
    """Return an array of another library's bfloat16, a type that NumPy does not exchange, by way of its bits."""
    if getattr(given, "requires_grad", False):  # its bits do not, and could be had in silence
        raise BufferError("it records gradients")
    bits = given.view(_library_of(given).int16)
    return as_array("bits", bits).view(need("ml_dtypes", "half", "arrays of bfloat16").bfloat16)


def _library_of(array: Any) -> Any:
    """Return the namespace of an array's library, or else its package."""
    space = getattr(array, "__array_namespace__", None)
    return sys.modules.get(type(array).__module__.partition(".")[0]) if space is None else space()


def like(model: object, found: Any) -> Any:
    """Return an array, or tuples and dicts of arrays, as arrays of the library that `model` is from.

    A library makes them by ``from_dlpack`` of its ``__array_namespace__``, or of the package itself, and decides
    whether that is a copy. Where there is no such function they stay NumPy's.
    """
    kind = type(model)
    if kind is np.ndarray or not hasattr(kind, "__dlpack__") or isinstance(model, np.ndarray):
        return found
    make = getattr(_library_of(model), "from_dlpack", None)
    return found if make is None else _each(make, found, model)


def _each(make: Callable[[Array], Any], found: Any, model: Any) -> Any:
    if isinstance(found, np.ndarray):
        if found.dtype.name == "bfloat16":  # of the model too; NumPy hands over no type but its own
            return make(found.view(np.uint16)).view(model.dtype)
        return make(found)
    if isinstance(found, tuple):
        return type(found)(*(_each(make, x, model) for x in found))
    if isinstance(found, dict):
        return {name: _each(make, x, model) for name, x in found.items()}
    return found


def name_of(dtype: "np.dtype[Any] | type") -> str:
    """Return what a caller would write for a dtype."""
    name = np.dtype(dtype).newbyteorder("=").name
    return f"ml_dtypes.{name}" if name == "bfloat16" else f"np.{name}"


def type_word(value: object) -> object:
    """Return the word for an element type, "int8" for ``np.int8``; what is a word, or none of these, as it is."""
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    return value


def cast(name: str, array: Array, dtype: "np.dtype[Any] | type") -> str:
    """Return the advice for an argument of another dtype; it is good for a list as well, which has no `astype`."""
    wanted = name_of(dtype)
    return f"pass np.asarray({name}, {wanted})." if array.dtype.kind in "biuf" else f"pass an array of {wanted}."


def float_array(name: str, value: object) -> Array:
    """Return the argument called `name` as a float32 or float64 array of any byte order, or raise."""
    array = as_array(name, value)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise DTypeError(describe(name, "a float32 or float64 array", array.dtype, cast(name, array, np.float32)))
    return array


def wide_array(name: str, value: object) -> Array:
    """The same as `float_array`, of an array of a half type, too, which comes back in float32."""
    array = as_array(name, value)
    return float_array(name, widened(array) if is_half(array.dtype) else array)


def float_axes(name: str, value: object, axes: str, width: int | None = None) -> Array:
    """Return the argument called `name` as a float array with these axes, such as "B, T, D", or raise; the last is of
    size `width` if that is given."""
    array = float_array(name, value)
    if array.ndim != axes.count(",") + 1 or (width is not None and array.shape[-1] != width):
        wanted = f"shape ({axes})" + ("" if width is None else f" with last size {width}")
        raise ShapeError(describe(name, wanted, f"shape {array.shape}", "add, merge or project axes."))
    return array


def gradient_array(
    name: str,
    value: object,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    hint: str = "pass the gradient of the output.",
) -> Array:
    """Return an array of this shape and dtype, in any byte order, or raise: a gradient of what has these."""
    array = as_array(name, value)
    if array.shape != shape:
        raise ShapeError(describe(name, f"shape {shape}", f"shape {array.shape}", hint))
    if array.dtype.char != dtype.char:
        raise DTypeError(describe(name, f"dtype {dtype}", array.dtype, cast(name, array, dtype)))
    return array


def native(array: Array) -> Array:
    """Return the array as kernels read it: contiguous, aligned, in the machine's byte order; a copy if it is not."""
    flags = array.flags
    if flags.c_contiguous and flags.aligned and array.dtype.isnative:
        return array  # np.require alone takes 2 us
    return np.require(array, array.dtype.newbyteorder("="), ["C", "A"])


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of this type are only stored in it: float16, or the bfloat16 of the package ml_dtypes."""
    # dtype.name takes 5 us. ml_dtypes' types have the kind V, as records have.
    return dtype.char == "e" or (dtype.kind == "V" and dtype.name == "bfloat16")


def widened(array: Array) -> Array:
    """Return an array of a half type in float32, which holds each of its numbers."""
    return array.astype(np.float32)


def narrowed(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array of float32 in a half type: each number rounded to the nearest, ties to even, infinite beyond."""
    with np.errstate(over="ignore"):
        return array.astype(dtype.newbyteorder("=") if dtype.char == "e" else dtype)


def read_only(array: Array) -> Array:
    """Return a view of a contiguous array through which nothing can be written, and which nobody can make writable."""
    return np.asarray(array.view().data.toreadonly())


def frozen(array: Array) -> Array:
    """Return a contiguous copy that nobody can change: for numbers that were checked once and are trusted later.

    What is one already is not copied again.
    """
    base: object = array.base
    if isinstance(base, bytes) and array.flags.c_contiguous:
        return array.view()
    return np.ndarray(array.shape, array.dtype, array.tobytes())


def float_dtype(value: object) -> "np.dtype[Any]":
    """Return the argument called `dtype` as float32 or float64, or raise."""
    try:
        dtype = np.dtype(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise DTypeError(describe("dtype", "float32 or float64", reprlib.repr(value), "pass np.float32.")) from None
    if dtype.char not in "fd":
        raise DTypeError(describe("dtype", "float32 or float64", dtype, "pass np.float32."))
    return dtype


def index_array(name: str, value: object, size: int, also: int | None = None) -> Array:
    """Return the argument called `name` as int64 numbers in [0, size), or equal to `also`, or raise.

    It is a copy, so that what was checked stays so whatever the caller does with the array.
    """
    array = np.array(as_array(name, value), order="C")
    if array.dtype.kind not in "iu":
        raise DTypeError(describe(name, "integers", array.dtype, cast(name, array, np.int64)))
    if array.dtype == np.uint64 and array.size and int(array.max()) > np.iinfo(np.int64).max:
        wrong = array.max()
    else:
        array = array.astype(np.int64, copy=False)
        outside = array.view(np.uint64) >= size  # negative ones are large
        if also is not None:
            outside &= array != also
        if not outside.any():
            return array
        wrong = array[outside][0]
    expected = f"integers from 0 to {size - 1}" + ("" if also is None else f", or {also}")
    raise ArgumentError(describe(name, expected, wrong, "the numbers must be those of the vocabulary in use."))


def row_array(rows: object, batch: int | None) -> Array:
    """Return numbers of batch entries as int64 that nobody can change, or raise; None: of a batch of unknown size."""
    index = as_array("rows", rows)
    if index.ndim != 1 or (index.dtype.kind not in "iu" and index.size):
        got = f"{index.dtype} of shape {index.shape}"
        raise DTypeError(describe("rows", "a 1-D array of integers", got, "pass batch entries."))
    found = index.astype(np.int64)
    if len(found):
        # As unsigned numbers negative ones are large, and so are those that int64 does not hold.
        end = 2**63 if batch is None else batch
        if int(found.view(np.uint64).max()) >= end:
            expected = f"entries from 0 to {batch - 1}" if batch else "entries from 0 on" if batch is None else "none"
            hint = "they index the batch, and do not count from its end."
            raise ArgumentError(describe("rows", expected, f"{index.min()} to {index.max()}", hint))
    return frozen(found)


def entmax_alpha(value: object) -> Array:
    """Return the exponent of entmax as a frozen float array, or raise unless all of it is in [1, 2]."""
    array = as_array("alpha", value)
    if array.dtype.kind in "iu":
        array = array.astype(np.float64)
    alpha = np.array(float_array("alpha", array))
    if not bool(((alpha >= 1) & (alpha <= 2)).all()):
        hint = "1 is softmax, 2 is sparsemax."
        raise ArgumentError(describe("alpha", "numbers in [1, 2]", value, hint))
    return frozen(alpha)


def output_array(
    name: str,
    out: object,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    inputs: Iterable[Array | None],
    *,
    contiguous: bool = False,
    maker: str = "empty",
) -> Array:
    """Return the argument called `name` as an array to be written, or raise; it may overlap none of the inputs.

    An array of another library is returned as one of NumPy's that has its memory. `maker` is what makes one, for the
    advice: "empty", or "zeros" if it is added to.
    """
    given = [array for array in inputs if array is not None]
    if type(out) is np.ndarray and out.shape == shape and out.dtype == dtype and out.flags.carray:
        if out.dtype.isnative and not any(np.may_share_memory(out, array) for array in given):
            return out  # as nearly all are
    hint = f"pass np.{maker}({shape}, {name_of(dtype)}), or leave it out."
    if not isinstance(out, np.ndarray):
        out = _memory_of(name, out, hint)
    if out.dtype != dtype or not out.dtype.isnative:
        raise DTypeError(describe(name, f"dtype {dtype}", out.dtype, hint))
    if out.shape != shape:
        raise ShapeError(describe(name, f"shape {shape}", f"shape {out.shape}", hint))
    if not out.flags.writeable:
        raise ArgumentError(describe(name, "a writable array", "a read-only one", hint))
    if contiguous and not out.flags.carray:
        raise ArgumentError(describe(name, "a contiguous array", f"one of strides {out.strides}", hint))
    if not _elements_apart(out):
        got = f"one of strides {out.strides}, whose elements overlap each other"
        raise ArgumentError(describe(name, "an array with memory for each element", got, hint))
    if any(_overlap(out, array) for array in given):
        raise ArgumentError(describe(name, "memory of its own", "an array that overlaps an input", hint))
    return out


def _memory_of(name: str, out: object, hint: str) -> Array:
    """Return an array of another library as one of NumPy's with the same memory, or raise."""
    if any(hasattr(type(out), protocol) for protocol in ("__dlpack__", "__array_interface__", "__array__")):
        array, again = as_array(name, out), as_array(name, out)
        if array.size == 0 or np.may_share_memory(array, again):  # else each is a copy, which nobody would see
            return array
    raise DTypeError(describe(name, "an array", type(out).__name__, hint))


def _elements_apart(array: Array) -> bool:
    """Whether every axis steps over all that the axes of smaller strides reach."""
    reach = array.itemsize
    for stride, n in sorted((abs(stride), n) for stride, n in zip(array.strides, array.shape) if n > 1):
        if stride < reach:
            return array.size == 0
        reach += stride * (n - 1)
    return True


def _overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share memory; when in doubt, yes. Columns of one array, for one, do not share any."""
    work: Any = 1000
    try:
        return np.shares_memory(a, b, max_work=work)
    except np.exceptions.TooHardError:
        return True
