"""Numbers of narrow types: matrices rounded to bfloat16 or int8 and laid out as kernels read them, rows of int8."""

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "NARROW",
    "SCALE_BYTES",
    "Narrow",
    "NarrowType",
    "narrowed",
    "numbers_of",
    "rows_of_int8",
    "rows_widened",
    "widened",
]

Array = NDArray[Any]
NarrowType = Literal["bfloat16", "int8"]
NARROW: tuple[NarrowType, ...] = get_args(NarrowType)

SCALE_BYTES = 4  # at the end of a row of int8

_PANEL = 64  # columns
_MOST: Any = np.float64(127)  # of int8, in size
_LARGEST = float(np.finfo(np.float32).max)
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

    def columns(self, ids: Array) -> Array:
        """Return these columns of `unpack()`, (n, K), from a quarter of the cache's lines that they have there."""
        depth, _, axes = _AXES[self.name]
        blocks = -(-self.shape[0] // depth)
        laid = self.packed.view(np.uint32).reshape(-1, blocks, 4, 16, 16)  # what lies side by side is of one column
        taken = laid[ids // _PANEL, :, ids % _PANEL // 16, :, ids % 16]
        kind = np.int8 if self.scales is not None else np.uint16
        numbers = taken.view(kind).reshape(len(ids), blocks, 16, -1)
        if axes.index(1) > axes.index(2):  # those of a word are far apart
            numbers = numbers.transpose(0, 1, 3, 2)
        whole = numbers.reshape(len(ids), blocks * depth)[:, : self.shape[0]]
        return np.ascontiguousarray(widened(whole, None if self.scales is None else self.scales[ids][:, None]))

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
    return _whole(w, scales), scales


def rows_of_int8(x: Array) -> Array:
    """Return float32 rows (..., D) as int8 (..., D + 4): whole numbers, then the four bytes of their scale, a float32.

    The rule is that of `numbers_of`, of rows. One with an infinity or a NaN keeps them where they are: its scale is the
    same of its finite elements, with 126 in place of 127, and has a minus sign, with which 127 is infinity, -127 minus
    infinity and -128 NaN. The largest scale is one that 127 times, or 126 times, is finite.
    """
    largest = np.abs(x).max(axis=-1, initial=0)
    odd, most, finite = ~(largest <= _LARGEST), _MOST, x
    if odd.any():
        finite = np.where(np.isfinite(x), x, np.float32(0))
        largest, most = np.abs(finite).max(axis=-1, initial=0), np.where(odd, _MOST - 1, _MOST)
    scales = _scales(largest, most)
    made = np.empty((*x.shape[:-1], x.shape[-1] + SCALE_BYTES), np.int8)
    numbers = made[..., :-SCALE_BYTES]
    numbers[...] = _whole(finite, scales[..., None])
    if finite is not x:
        for number, there in ((_MOST, x == np.inf), (-_MOST, x == -np.inf), (-_MOST - 1, np.isnan(x))):
            numbers[there] = number
        scales = np.where(odd, -scales, scales)
    made[..., -SCALE_BYTES:] = np.ascontiguousarray(scales)[..., None].view(np.int8)
    return made


def rows_widened(rows: Array) -> Array:
    """Return what `rows_of_int8` made as float32, in which all of it is exact."""
    numbers = rows[..., :-SCALE_BYTES]
    scales = np.ascontiguousarray(rows[..., -SCALE_BYTES:]).view(np.float32)
    with np.errstate(over="ignore"):  # what stands for an infinity may be
        found = widened(numbers, np.abs(scales))
    odd = np.signbit(scales)
    if odd.any():
        for number, element in ((_MOST, np.inf), (-_MOST, -np.inf), (-_MOST - 1, np.nan)):
            found[odd & (numbers == number)] = element
    return found


def widened(numbers: Array, scales: Array | None) -> Array:
    """Return the elements as float32, in which all of them are exact."""
    if scales is not None:
        return np.multiply(numbers, scales, dtype=np.float32)
    return (numbers.astype(np.uint32) << 16).view(np.float32)


def _whole(x: Array, scales: Array) -> Array:
    found = x / np.where(scales > 0, scales, 1).astype(np.float64)
    np.rint(found, out=found)  # a second array takes longer to come by than to fill
    return found.astype(np.int8)


def _scales(largest: Array, most: Any = _MOST) -> Array:
    scales = (largest / most).astype(np.float32)
    scales = np.where(most * scales < largest, np.nextafter(scales, np.float32(np.inf)), scales)
    short = ((scales.view(np.uint32) + 0x7F) & 0xFFFFFF80).view(np.float32)
    # A subnormal scale is a power of two, or rounding again could find another one.
    part, exponent = np.frexp(scales)
    power = np.where(scales > 0, np.ldexp(np.float32(1), exponent - (part == 0.5)), np.float32(0))
    end = (np.asarray(_LARGEST / most, np.float32).view(np.uint32) & 0xFFFFFF80).view(np.float32)
    return np.minimum(np.where(scales < np.finfo(np.float32).tiny, power, short), end).astype(np.float32)


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
