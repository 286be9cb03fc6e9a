"""Matrix products with packed weights: rows whose bits do not depend on how many rows there are.

A BLAS picks another order of summation for one row than for many, so a sentence alone differs from the same sentence
in a batch. Here every element of a product is one chain of multiply-adds in ascending order of the inner index, or, on
a matrix unit, one order of sums of products of parts. Matrices of narrower types have an order of their own.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import (
    Array,
    as_array,
    cast,
    float_array,
    is_half,
    like,
    native,
    output_array,
    read_only,
    type_word,
    wide_array,
    widened,
)
from fastattn._arrays import narrowed as rounded_to
from fastattn._kernels import core
from fastattn._kernels.narrow import NARROW, Narrow, NarrowType, narrowed
from fastattn._numbers import check_choice, check_flag
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe

__all__ = ["PackedWeights", "matmul", "row_sum", "weight_gradient"]

# Elements of a matrix for the matrix unit, beyond what an L2 holds: a rule of the matrix alone, so that a row has the
# same bits in any product. Less is enough in "medium", of half the bytes, and in "batched", which says that rows are
# many; and for a gradient of a matrix, which no row has alone.
LEAST_FOR_TILES, LEAST_IN_MEDIUM, LEAST_FOR_GRADIENT = 1 << 20, 1 << 18, 1 << 14

ALL_PARTS = 3  # of a number; more of them mean that none is for the unit

# A matrix as a matrix unit reads it, and whether all of its numbers are for the unit: else products need panels too.
Parts = tuple[Array, bool]

MOST_OF_INT8 = 1 << 17  # products of numbers up to 127 whose sum 32 bits hold


class PackedWeights:
    """A matrix packed once for many products.

    Parameters
    ----------
    w : array, shape (K, N), float32 or float64, or float16 or bfloat16
        Copied; later changes to `w` have no effect. A half type is kept in float32 unless `dtype` says otherwise.
    dtype : {"bfloat16", "int8"}, optional
        A narrower type in which the matrix is kept, of a float32 `w`; products are of float32. By default that of `w`.
        ``ml_dtypes.bfloat16`` and ``np.int8`` are the same.

    Notes
    -----
    With ``dtype="bfloat16"`` the elements of the matrix and of x are rounded to bfloat16, the nearest, ties to even,
    and products are summed in float32: of each 32 numbers of K two chains of multiply-adds from zero, of the first and
    of the last 16, which are added to each other and then to the sum of those before. An element errs by at most
    ``2 u A`` beside the error of float32 sums, with u = 2^-8 and A the sum of ``|x w|``. With ``dtype="int8"`` each
    column of the matrix and each row of x are whole numbers from -127 to 127 times a scale, a 127th of the largest
    (that of a column has 17 bits and is rounded up): an element errs by at most
    ``sum_k(|x_k| s_n + |w_kn| t_m) / 2 + K s_n t_m / 4``. Sums are exact, up to K = 131072, scaled in float64 and
    rounded once. A row of x that is not finite is multiplied in float64, with the matrix as it is kept. In both types
    the bits are the same at every level. They are meant for a matrix unit, the level "amx"; elsewhere they save memory,
    a half or three quarters of it, and no time.

    Work of a product with M rows: 2 M K N operations; memory: K N elements rounded up to whole panels of 256 bytes,
    twice that once `matmul_transposed` has been used. Where `fastattn.set_float32_precision` allows it, float32
    matrices of 2^20 elements and more, in ``"medium"`` and ``"batched"`` of 2^18, are multiplied at the level ``amx``
    as sums of bfloat16 products: faster from 16 rows up, slower below; their parts take 4 bytes, 2 or 6, for each
    element beside the 4 of float32.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.linear import PackedWeights
    >>> w = PackedWeights(np.arange(6, dtype=np.float32).reshape(2, 3))
    >>> w.matmul(np.ones((1, 2), np.float32))
    array([[3., 5., 7.]], dtype=float32)
    >>> PackedWeights(np.full((4, 1), 0.3, np.float32), dtype="int8").matmul(np.full((1, 4), 2, np.float32)).round(3)
    array([[2.4]], dtype=float32)
    """

    def __init__(self, w: Array, dtype: NarrowType | type[np.generic] | np.dtype[Any] | None = None) -> None:
        w = _matrix(w)
        self._shape = w.shape
        self._narrow = None if dtype is None else _narrow(w, dtype)
        self._panels = self._first(w) if self._narrow is None else None
        self._parts: dict[tuple[bool, int], Parts | None] = {}
        # Packed when it is first needed; a copy, so that both products see the same weights.
        self._transposed: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes K and N."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Element type of products with the matrix, and of the matrix unless `storage` says another."""
        return np.dtype(np.float32) if self._panels is None else self._panels.dtype

    @property
    def storage(self) -> str:
        """Name of the type in which the matrix is kept: "float32", "float64", "bfloat16" or "int8"."""
        return self.dtype.name if self._narrow is None else self._narrow.name

    def matmul(self, x: Array, out: Array | None = None, *, bias: Array | None = None, relu: bool = False) -> Array:
        """Return ``x @ w`` for x of shape (..., K), or ``x @ w + bias``, or ``relu(x @ w + bias)``.

        Parameters
        ----------
        x : array, shape (..., K)
            Of `dtype`; beside float32 also float16 or bfloat16, in which the result comes out, rounded once, to nearest
            even. float16 is multiplied in float32, or as int8 with a matrix of that, and never made bfloat16.
        out : array, shape (..., N), optional
            Contiguous; receives the product.
        bias : array, shape (N,), optional
            Added to every row, with the bits of an addition afterwards.
        relu : bool
            Whether what is below 0 becomes 0; NaN stays.

        Returns
        -------
        array, shape (..., N)
        """
        narrow = self._narrow
        if narrow is not None and out is None:
            y = core.narrow_product(x, self._shape, narrow.packed, narrow.scales, narrow.plain, bias, relu)
            if y is not None:
                return y
        exactly = None if self.storage == "int8" else self._multiply_exactly
        halves = narrow is not None
        return _product(x, self._multiply, False, self.dtype, self._shape, out, bias, relu, exactly, halves)

    def matmul_transposed(self, dy: Array, out: Array | None = None) -> Array:
        """Return ``dy @ w.T`` for dy of shape (..., N): the gradient of x for ``y = x @ w``.

        With a matrix of a narrower type this is the product of float32 with its elements as they are kept.

        Parameters
        ----------
        dy : array, shape (..., N)
            Of the types of x in `matmul`.
        out : array, shape (..., K), optional
            Contiguous; receives the product.

        Returns
        -------
        array, shape (..., K)
        """
        return _product(dy, self._multiply, True, self.dtype, self._shape[::-1], out, exactly=self._multiply_exactly)

    @property
    def panels(self) -> Array:
        """The matrix as kernels read it, one flat read-only array ``[N / width][K][width]``, zero beyond N.

        That of a matrix of a narrower type is of float32, and made when it is first asked for.
        """
        return read_only(self._packed)

    def panels_transposed(self) -> Array:
        """Return the transposed matrix as kernels read it, read-only."""
        return read_only(self._panels_transposed())

    @property
    def _packed(self) -> Array:
        if self._panels is None:
            self._panels = self._pack(self._unpacked(), transposed=False)
        return self._panels

    def _panels_transposed(self) -> Array:
        if self._transposed is None:
            self._transposed = self._pack(self._unpacked(), transposed=True)
        return self._transposed

    def _multiply(self, transposed: bool, x: Array, y: Array, bias: Array | None, relu: bool) -> None:
        narrow = None if transposed else self._narrow
        if narrow is not None:
            core.gemm_narrow(x, narrow.packed, y, narrow.scales, narrow.plain, bias, relu)
            return
        parts = self._parts_of(transposed)
        panels = self._transposed if transposed else self._panels
        if panels is None and (parts is None or not parts[1]):
            panels = self._panels_of(transposed)
        if not core.gemm(x, panels, y, bias, relu, parts and parts[0]):
            core.gemm(x, self._panels_of(transposed), y, bias, relu, parts and parts[0])

    def _multiply_exactly(self, transposed: bool, x: Array, y: Array, bias: Array | None, relu: bool) -> None:
        """With factors of float32, whatever precision is allowed."""
        core.gemm(x, self._panels_of(transposed), y, bias, relu, None)

    def _panels_of(self, transposed: bool) -> Array:
        return self._panels_transposed() if transposed else self._packed

    def _parts_of(self, transposed: bool) -> Parts | None:
        """The matrix, or its transpose, as a matrix unit reads it, made at the first product; None: not on one."""
        count = parts_on_tiles(self._shape)
        if not count:
            return None
        if (transposed, count) not in self._parts:
            self._parts[transposed, count] = self._split(transposed, count)
        return self._parts[transposed, count]

    def _split(self, transposed: bool, count: int) -> Parts | None:
        return split_parts(self._unpacked(), transposed, count)

    def _first(self, w: Array) -> Array | None:
        return self._pack(w, transposed=False)

    def _pack(self, w: Array, transposed: bool) -> Array:
        return pack_panels(w, transposed)

    def unpack(self) -> Array:
        """Return the matrix as it is kept, as an ordinary array of shape (K, N), a copy."""
        return self._unpacked()

    def _unpacked(self) -> Array:
        if self._narrow is not None:
            return self._narrow.unpack()
        rows, columns = self.shape
        width = core.panel_width(self._packed)
        if not rows:
            return np.empty(self.shape, self.dtype)
        panels = self._packed.reshape(-1, rows, width)
        return np.ascontiguousarray(panels.transpose(1, 0, 2).reshape(rows, -1)[:, :columns])

    def __reduce__(self) -> tuple[Any, ...]:
        # Packed anew, in the form of the kernels there; what was rounded once stays as it is.
        return PackedWeights, (self._unpacked(), None if self._narrow is None else self._narrow.name)

    def __repr__(self) -> str:
        return f"PackedWeights(shape={self.shape}, dtype={self.storage})"


class PlainWeights(PackedWeights):
    """A matrix whose size has padding in it: a matrix unit, which sizes decide about, has no part in its products."""

    def _parts_of(self, transposed: bool) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return PlainWeights, (self._unpacked(),)


def matmul(x: Array, w: Array, *, plain: bool = False) -> Array:
    """Return ``x @ w`` for x (..., K) and w (K, N), w packed for this one product; plain: as of `PlainWeights`."""
    if type(w) is not np.ndarray or w.ndim != 2 or w.dtype.char not in "fd":
        w = _matrix(w)

    def multiply(transposed: bool, x: Array, y: Array, bias: Array | None, relu: bool) -> None:
        count = 0 if plain else parts_on_tiles(w.shape)
        parts = split_parts(w, False, count) if count else None
        if parts is None or not (parts[1] and core.gemm(x, None, y, parts=parts[0])):
            core.gemm(x, pack_panels(w, transposed=False), y, parts=parts and parts[0])

    def exactly(transposed: bool, x: Array, y: Array, bias: Array | None, relu: bool) -> None:
        core.gemm(x, pack_panels(w, transposed=False), y)

    return _product(x, multiply, False, w.dtype.newbyteorder("="), w.shape, None, exactly=exactly)


def weight_gradient(x: Array, dy: Array, out: Array | None = None, *, sums: Array | None = None) -> Array:
    """Return ``sum_m x_m^T dy_m`` over all leading positions m, in ascending order: w's gradient for ``y = x @ w``.

    Parameters
    ----------
    x : array, shape (..., K)
        Of float32 or float64, or of a half type, which counts as the same numbers in float32.
    dy : array, shape (..., N)
        Likewise. Where a row of dy is zero, that row of x is not read, NaN or not.
    out : array, shape (K, N), optional
        Contiguous; the sum is added to it, that of each 1024 rows by itself (512 in float64), counted without rows of
        zeros: rows in pieces of multiples of 1024 give the bits of all at once.
    sums : array, shape (N,), optional
        Contiguous; the rows of dy are added to it on the way: the gradient of b for ``y = x @ w + b``.

    Returns
    -------
    array, shape (K, N)
        `out` if it was given.

    Notes
    -----
    At the level ``amx``, in the precisions ``"medium"``, ``"high"`` and ``"batched"`` of
    `fastattn.set_float32_precision`, gradients of 2^14 elements and more are float32 sums of products of bfloat16
    numbers: those to which x and dy are rounded, or two or three for each of theirs. An element errs by at most
    ``2 u A``, ``3 u^2 A`` or nothing beside the error of float32 sums, with u = 2^-8 and A the sum of ``|x dy|``.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.linear import weight_gradient
    >>> weight_gradient(np.ones((4, 2), np.float32), np.ones((4, 1), np.float32))
    array([[4.],
           [4.]], dtype=float32)
    """
    return _weight_gradient(x, dy, out, sums, True)


def replace_gradient(x: Array, dy: Array, out: Array, sums: Array | None) -> None:
    """Do what `weight_gradient` does if `out` and `sums` hold zeros, whatever they hold."""
    _weight_gradient(x, dy, out, sums, False)


def _weight_gradient(x: Array, dy: Array, out: Array | None, sums: Array | None, accumulate: bool) -> Array:
    given = x
    x, dy = wide_array("x", x), wide_array("dy", dy)
    if x.dtype.char != dy.dtype.char:
        raise DTypeError(describe("dy", f"dtype {x.dtype}, that of x", dy.dtype, cast("dy", dy, x.dtype)))
    if x.ndim < 1 or x.shape[:-1] != dy.shape[:-1] or dy.ndim < 1:
        expected = f"leading shape {x.shape[:-1]}, as x has"
        raise ShapeError(describe("dy", expected, f"shape {dy.shape}", "pass the gradient of x @ w."))
    rows = math.prod(x.shape[:-1])
    flat_x, flat_dy = core.unit(x.reshape(rows, x.shape[-1])), core.unit(dy.reshape(rows, dy.shape[-1]))
    shape = (x.shape[-1], dy.shape[-1])
    more: Any = {"contiguous": True, "maker": "zeros"}
    parts = parts_of_gradient(shape)
    if sums is not None:
        sums = output_array("sums", sums, shape[1:], flat_x.dtype, (x, dy), **more)
    if out is not None:
        own = output_array("out", out, shape, flat_x.dtype, (x, dy, sums), **more)
        core.gemm_tn(flat_x, flat_dy, own, sums, accumulate, parts)
        return out
    dw = np.zeros(shape, flat_x.dtype) if sums is not None else core.empty(shape, flat_x.dtype)
    core.gemm_tn(flat_x, flat_dy, dw, sums, sums is not None, parts)
    return like(given, dw)


def row_sum(dy: Array, out: Array | None = None) -> Array:
    """Return the sum of dy over all axes but the last, in ascending order: the gradient of b for ``y = x + b``.

    Parameters
    ----------
    dy : array, shape (..., N)
        Of float32 or float64, or of a half type, whose sum is float32.
    out : array, shape (N,), optional
        Contiguous; the rows are added to it.

    Returns
    -------
    array, shape (N,)
        `out` if it was given.
    """
    given, dy = dy, wide_array("dy", dy)
    dtype = dy.dtype.newbyteorder("=")
    if out is None:
        sums = np.zeros(dy.shape[-1:], dtype)
    else:
        sums = output_array("out", out, dy.shape[-1:], dtype, (dy,), contiguous=True, maker="zeros")
    weight_gradient(np.empty((*dy.shape[:-1], 0), dtype), dy, sums=sums)
    return like(given, sums) if out is None else out


def _matrix(value: object) -> Array:
    w = wide_array("w", value)
    if w.ndim != 2:
        raise ShapeError(describe("w", "two axes (K, N)", f"shape {w.shape}", "reshape it to (K, N)."))
    return w


def _narrow(w: Array, dtype: object) -> Narrow:
    hint = "pass one of these, or leave it out to keep the type of w."
    name = check_choice("dtype", type_word(dtype), NARROW, hint)
    if w.dtype.char != "f":
        expected = f"float32 elements to be kept as {name}"
        raise DTypeError(describe("w", expected, w.dtype, cast("w", w, np.float32)))
    if name == "int8":
        if w.shape[0] > MOST_OF_INT8:
            hint = "cut the matrix into several, or use dtype='bfloat16'."
            raise ShapeError(describe("w", f"at most {MOST_OF_INT8} rows of int8", f"shape {w.shape}", hint))
        if w.size and not bool(np.abs(w).max() < 2.0**127):
            hint = "int8 has no infinities and no NaN; use dtype='bfloat16', or find out where they are from."
            raise ArgumentError(describe("w", "finite numbers below 2^127 in size", "others", hint))
    made = narrowed(w, name)
    packed = core.aligned_empty(made.packed.shape, made.packed.dtype)
    packed[...] = made.packed
    return made._replace(packed=packed)


def pack_panels(w: Array, transposed: bool, packed: Array | None = None) -> Array:
    w = core.unit(w, False)
    rows, columns = w.shape[::-1] if transposed else w.shape
    if packed is None:
        packed = core.aligned_empty((core.gemm_packed_elements(w, rows, columns),), w.dtype)
    core.gemm_pack(w, transposed, packed)
    return packed


def has_unit() -> bool:
    """Whether there is a matrix unit, so that precisions differ."""
    return core.gemm_parts_bytes(np.empty(0, np.float32), 1, 1) > 0


def parts_on_tiles(shape: tuple[int, ...]) -> int:
    """By how many parts a matrix of this shape is multiplied on a matrix unit, in this thread; 0: by none."""
    count = core.parts(True) or core.parts(False)
    least = LEAST_FOR_TILES if count == 2 else min(LEAST_FOR_TILES, LEAST_IN_MEDIUM)
    return count if count <= ALL_PARTS and shape[0] * shape[1] >= least else 0


def parts_of_gradient(shape: tuple[int, ...]) -> int:
    """Of how many parts of a number the gradient of a matrix of this shape is, on a matrix unit; 0: not on one."""
    count = core.parts(True) or core.parts(False)
    return count if shape[0] * shape[1] >= LEAST_FOR_GRADIENT and count <= ALL_PARTS else 0


def split_parts(
    w: Array,
    transposed: bool,
    count: int,
    memory: Array | None = None,
    maker: Callable[..., Array] = core.aligned_empty,
) -> Parts | None:
    """Return so many parts of w, or its transpose, for a matrix unit, in memory of before or of `maker`; None: there is
    no unit."""
    w = core.unit(w, False)
    if memory is None:
        rows, columns = w.shape[::-1] if transposed else w.shape
        size = core.gemm_parts_bytes(w, rows, columns, count)
        if not size:
            return None
        memory = maker((size,), np.dtype(np.uint8))
    return memory, core.gemm_split(w, transposed, memory)


Multiply = Callable[[bool, Array, Array, Array | None, bool], None]


def _product(
    x: Array,
    multiply: Multiply,
    transposed: bool,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    out: Array | None,
    bias: Array | None = None,
    relu: bool = False,
    exactly: Multiply | None = None,
    halves: bool = False,
) -> Array:
    """Return the product; float16, of 11 bits, is multiplied by `exactly` if that is given.

    halves: whether `multiply` takes bfloat16 as its bits, uint16.
    """
    given, source = x, as_array("x", x)
    half = source.dtype if is_half(source.dtype) and dtype.char == "f" else None
    if source.dtype.char == "e" and exactly is not None:
        multiply = exactly
    bits = halves and half is not None and half.name == "bfloat16"
    x = source.view(np.uint16) if bits else float_array("x", source if half is None else widened(source))
    if x.ndim < 1 or x.shape[-1] != shape[0]:
        raise ShapeError(describe("x", f"last size {shape[0]}", f"shape {x.shape}", f"the matrix is {shape}."))
    if not bits and x.dtype.char != dtype.char:
        raise DTypeError(describe("x", f"dtype {dtype}, that of the matrix", x.dtype, cast("x", x, dtype)))
    if bias is not None:
        if type(bias) is not np.ndarray:
            bias = float_array("bias", bias)
        if bias.shape != shape[1:] or bias.dtype.char != dtype.char:
            expected = f"{dtype} of shape {shape[1:]}"
            got = f"{bias.dtype} of shape {bias.shape}"
            raise ShapeError(describe("bias", expected, got, "pass one number for each column of the matrix."))
        bias = native(bias)
    if relu is not False:
        relu = check_flag("relu", relu)
    wanted = (*x.shape[:-1], shape[1])
    into = None if out is None else output_array("out", out, wanted, half or dtype, (source, bias), contiguous=True)
    made = np.dtype(np.uint16) if bits else dtype
    y = core.empty(wanted, made) if into is None or (half is not None and not bits) else into.view(made)
    rows = math.prod(x.shape[:-1])
    flat_x, flat_y = core.unit(x.reshape(rows, shape[0])), y.reshape(rows, shape[1])
    multiply(transposed, flat_x, flat_y, bias, relu)
    if half is not None:
        y = y.view(half) if bits else rounded_to(y, half)
        if into is not None and not bits:
            into[...] = y
    if out is not None:
        return out
    return y if type(given) is np.ndarray else like(given, y)
