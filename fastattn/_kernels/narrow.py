"""Numbers of narrow types: matrices rounded to bfloat16 or int8, and laid out as kernels read them."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["NARROW", "Narrow", "NarrowType", "narrowed", "numbers_of", "widened"]

Array = NDArray[Any]
NarrowType = Literal["bfloat16", "int8"]
NARROW: tuple[NarrowType, ...] = get_args(NarrowType)

_PANEL = 64  # columns
# Numbers of a block, and what of them lies side by side in four bytes: csrc/ops/narrow.inl has the layout.
_AXES: dict[NarrowType, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "bfloat16": (32, (2, 16), (3, 0, 4, 2, 5, 1)),
    "int8": (64, (16, 4), (3, 0, 4, 1, 5, 2)),
}


class Narrow(NamedTuple):
    """A matrix in a narrow type.

    Attributes
    ----------
    name : {"bfloat16", "int8"}
    shape : tuple of int
        K and N.
    packed : array of uint8, one axis
    scales : array of float32, or None
        Of int8, for each column of whole panels: an element is its number times this.
    plain : array of uint8, or None
        Of bfloat16, for each of these columns: whether it has numbers that no matrix unit is given.
    """

    name: NarrowType
    shape: tuple[int, ...]
    packed: Array
    scales: Array | None
    plain: Array | None

    def unpack(self) -> Array:
        """Return the elements as float32, to which all of them are exact."""
        (rows, columns), (depth, parts, axes) = self.shape, _AXES[self.name]
        kind = np.int8 if self.scales is not None else np.uint16
        blocks, panels = -(-rows // depth), -(-columns // _PANEL)
        sizes = (blocks, *parts, panels, 4, 16)
        laid = self.packed.view(kind).reshape([sizes[axis] for axis in axes])
        whole = laid.transpose(np.argsort(axes)).reshape(blocks * depth, panels * _PANEL)[:rows, :columns]
        return np.ascontiguousarray(widened(whole, None if self.scales is None else self.scales[:columns]))


def narrowed(w: Array, name: NarrowType) -> Narrow:
    """Return a float32 matrix (K, N) in a narrow type, as `numbers_of` rounds it."""
    numbers, scales = numbers_of(w, name)
    packed = _packed(numbers, name)
    if scales is not None:
        return Narrow(name, w.shape, packed, _whole_panels(scales), None)
    size = np.abs(widened(numbers, None))
    plain = ~((size == 0) | ((size >= 2.0**-40) & (size < 2.0**24))).all(axis=0)
    return Narrow(name, w.shape, packed, None, _whole_panels(plain.astype(np.uint8)))


def numbers_of(w: Array, name: NarrowType) -> tuple[Array, Array | None]:
    """Return the numbers of a float32 matrix in a narrow type, and of int8 the scales of its columns.

    bfloat16, as bits, is the nearest number, ties to even, and the largest one for a finite number beyond it. int8 is
    the nearest whole number of scales, of elements below 2^127 in size, and a column's scale the least number of 17
    bits that 127 times is no less than the largest element. So products of the two are exact, and what was rounded once
    is not changed by doing it again.
    """
    w = np.ascontiguousarray(w, np.float32)
    if name == "bfloat16":
        return _bfloat16(w), None
    scales = _scales(np.abs(w).max(axis=0, initial=0))
    return np.rint(w / np.where(scales > 0, scales, 1).astype(np.float64)).astype(np.int8), scales


def widened(numbers: Array, scales: Array | None) -> Array:
    """Return the elements as float32, in which all of them are exact."""
    if scales is not None:
        return np.multiply(numbers, scales, dtype=np.float32)
    return (numbers.astype(np.uint32) << 16).view(np.float32)


def _scales(largest: Array) -> Array:
    scales = (largest.astype(np.float64) / 127).astype(np.float32)
    scales = np.where(127 * scales.astype(np.float64) < largest, np.nextafter(scales, np.float32(np.inf)), scales)
    short = ((scales.view(np.uint32) + 0x7F) & 0xFFFFFF80).view(np.float32)
    # A subnormal scale is a power of two, or rounding again could find another one.
    part, exponent = np.frexp(scales)
    power = np.where(scales > 0, np.ldexp(np.float32(1), exponent - (part == 0.5)), np.float32(0))
    return np.where(scales < np.finfo(np.float32).tiny, power, short).astype(np.float32)


def _bfloat16(x: Array) -> Array:
    bits = x.view(np.uint32)
    nearest = bits + 0x7FFF + (bits >> 16 & 1)
    nan, far = np.isnan(x), (bits & 0x7FFFFFFF) >= 0x7F7F8000
    found: Array = (np.where(far, bits | np.where(nan, 0x400000, 0), nearest) >> 16).astype(np.uint16)
    return found


def _packed(numbers: Array, name: NarrowType) -> Array:
    (rows, columns), (depth, parts, axes) = numbers.shape, _AXES[name]
    blocks, panels = -(-rows // depth), -(-columns // _PANEL)
    whole = np.zeros((blocks * depth, panels * _PANEL), numbers.dtype)
    whole[:rows, :columns] = numbers
    laid = whole.reshape(blocks, *parts, panels, 4, 16).transpose(axes)
    return np.ascontiguousarray(laid).reshape(-1).view(np.uint8)


def _whole_panels(numbers: Array) -> Array:
    found = np.zeros(-(-len(numbers) // _PANEL) * _PANEL, numbers.dtype)
    found[: len(numbers)] = numbers
    return found
