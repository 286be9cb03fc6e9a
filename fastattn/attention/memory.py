"""Memories prepared once and attended to many times: encoder states in a decoder, beams, key-value caches."""

import math
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import numpy as np

from fastattn._arrays import Array, cast, is_half, narrowed, row_array, widened
from fastattn._kernels import core
from fastattn._kernels.narrow import SCALE_BYTES, rows_of_int8, rows_widened
from fastattn._numbers import check_flag, check_size
from fastattn._relative import RelativeBias
from fastattn.attention.arguments import (
    NO_OPTIONS,
    allocate,
    as_array,
    check_array,
    check_mask,
    check_memory,
    check_options,
    check_output,
    check_scale,
    check_sparse,
    length_array,
    score_arrays,
)
from fastattn.attention.functional import AttentionOutput, handed_back
from fastattn.attention.functions import apart, as_mask, as_modifier, check_modified, is_function
from fastattn.attention.halves import on_tiles
from fastattn.attention.options import Causal, Mask, MemoryOptions, Modifier, NormalizerLike, ScoreLike
from fastattn.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError, describe
from fastattn.normalizers.registry import resolve as resolve_normalizer
from fastattn.scores.base import KERNEL_ADDITIVE, Score, kernel_score
from fastattn.scores.registry import resolve

if TYPE_CHECKING:
    from fastattn.jit import MaskFunction, ScoreModifier

__all__ = ["Memory", "prepare"]

_FLOAT32, _INT8 = np.dtype(np.float32), np.dtype(np.int8)
_NDARRAY = np.ndarray
_ZERO = np.zeros(1)  # what a form without memory shows, of any type
MOST_PACKED = 1 << 18  # bytes of keys
MOST_BESIDE = 1 << 16  # of the keys of a batch entry


def prepare(
    key: Array,
    value: Array,
    *,
    score: ScoreLike = "scaled_dot",
    score_mod: Modifier | None = None,
    key_lengths: Array | None = None,
    mask: Mask | None = None,
    storage: object = None,
) -> "Memory":
    """Project and pack the keys of a memory once, for many calls of `Memory.attend`.

    Those of additive scores are packed, and of others up to 256 KB, which stay in a cache.

    Parameters
    ----------
    key : array, shape (..., Tk, Dk)
    value : array, shape (..., Tk, Dv)
        Both are read in place until `Memory.append` is called; do not change them meanwhile.
    score : str, Score or function
        Its parameters are read now; later changes to them have no effect.
    score_mod : function, optional
        As for `fastattn.attention`, for every query that will come; i is the query's row in its call, plus the `first`
        of `Memory.attend`.
    key_lengths : int array, shape (B,), optional
    mask : bool array, broadcastable to (..., 1, Tk) or (..., Tq, Tk), or function, optional
        True = may attend, for every query that will come.
    storage : dtype, optional
        The element type in which keys, projected where the score does so, and values are kept: that of `key`; of
        float32, ``np.float16``, ``ml_dtypes.bfloat16`` or ``np.int8``; of a half type, ``np.float32`` or ``np.int8``.

    Returns
    -------
    Memory

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        As `fastattn.attention`.

    Notes
    -----
    ``memory.attend(q)`` has the same bits as ``attention(q, key, value, ...)``. Those of a half type
    are kept in float32, but for bfloat16 where there is a matrix unit for it and the score is a product.

    With `storage` a half type they are rounded to it, to nearest even, infinite beyond its largest number, and take
    half the memory of float32. With ``np.int8`` each row of a head, of a key as of a value, is kept as ::

        x ~ s q,   s = max |x| / 127,   q = x / s to the nearest whole number, |error| <= s / 2

    one byte for each number and four for s, of which 17 bits are used, rounded up, so that s q is exact in float32.
    Where ``max |x|`` is below 2^-119, s is a power of two and up to twice as large, or 2^-149. A row of zeros comes out
    as it was; an infinity or a NaN stays where it is, and the other numbers of its row have ``max |x| / 126``. Whatever
    else a memory has makes no difference to a row.

    Queries and contexts stay of the type of `key`. Kernels read rows as they are kept; with a normalizer other than
    softmax, and with the kernels in Numba, every call of `attend` makes a copy in float32.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> states = np.ones((2, 5, 4), np.float32)
    >>> memory = fastattn.prepare(states, states)
    >>> memory.attend(np.ones((2, 1, 4), np.float32)).shape
    (2, 1, 4)
    """
    chosen, score_mod = apart(resolve(score), score_mod)
    key, value = check_memory(key, value)
    half = key.dtype if is_half(key.dtype) else None
    stored = None if storage is None else _stored(storage, key.dtype)
    if chosen.parameters:
        score_arrays(chosen, key.dtype if half is None else _FLOAT32, half)
        chosen = chosen.keep(key.shape[-1])
    batch, keys = key.shape[0] if key.ndim > 2 else 1, key.shape[-2]
    if key_lengths is not None:
        key_lengths = length_array(key_lengths, batch, keys)
    modifier = None if score_mod is None else as_modifier(score_mod)
    allow = as_mask(mask) if is_function(mask) else None
    kept = None if mask is None or allow is not None else _memory_mask(mask, key.ndim, batch, keys)
    if half is not None:
        of_kernel = kernel_score(chosen, _FLOAT32, key.shape[-1])
        functions = modifier is not None or allow is not None
        tiled = on_tiles(half, key.shape[-1], of_kernel, 1.0, NO_OPTIONS, chosen.projects or functions)
        stored = half if stored is None and tiled else stored
        if chosen.projects or stored is None or not is_half(stored):
            key, value = widened(key), widened(value)
        elif tiled:
            key, value = _on_lines(key), _on_lines(value)
    return Memory(chosen, key, value, key_lengths, kept, modifier, allow, half, stored)


def _on_lines(x: Array) -> Array:
    """Return an array, or a copy that begins a line of the cache, so that what a unit loads lies in one, not two."""
    if x.__array_interface__["data"][0] % 64 == 0:
        return x
    copy: Array = core.aligned_empty(x.shape, x.dtype)
    copy[...] = x
    return copy


def _stored(storage: object, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which keys and values of a dtype are kept, or raise."""
    try:
        stored = np.dtype(storage)  # type: ignore[call-overload]
    except TypeError:
        hint = "pass np.float16, np.int8, or ml_dtypes.bfloat16 of that package."
        raise DTypeError(describe("storage", "an element type", repr(storage), hint)) from None
    of_float32 = dtype == _FLOAT32 and _is_narrow(stored)
    if stored != dtype and not of_float32 and not (is_half(dtype) and stored in (_FLOAT32, _INT8)):
        beside = "float16, bfloat16, int8 or " if dtype == _FLOAT32 else "float32, int8 or " if is_half(dtype) else ""
        hint = "convert key and value first, for a memory of another type."
        raise UnsupportedError(describe("storage", f"{beside}{dtype}, the dtype of key", stored, hint))
    return stored


def _is_narrow(dtype: np.dtype[Any]) -> bool:
    """Whether what is kept in it is computed with in float32."""
    return dtype == _INT8 or is_half(dtype)


def _memory_mask(value: object, axes: int, batch: int, keys: int) -> Array:
    """Return the mask if some query can come that it fits, or raise; its heads and rows are those of the query."""
    mask = as_array("mask", value)
    fits = mask.ndim <= axes and (mask.ndim == 0 or mask.shape[-1] in (1, keys))
    if not fits or (mask.ndim == axes > 2 and mask.shape[0] not in (1, batch)):
        leading = {2: "", 3: f"{batch}, ", 4: f"{batch}, H, "}[axes]
        hint = "the last axis of the mask is over keys."
        raise ShapeError(
            describe("mask", f"a shape that broadcasts to ({leading}Tq, {keys})", f"shape {mask.shape}", hint)
        )
    return check_mask(mask, mask.shape).copy()


class Memory:
    """Keys, projected and packed, and their values. Made by `prepare`.

    Attributes
    ----------
    shape : tuple of int
        Of the keys without their width: (Tk,), (B, Tk) or (B, Hk, Tk).
    nbytes : int
        Bytes of the keys and values as they are kept, with what is packed of them and with the space for more.
    """

    __slots__ = (
        "_allow", "_beams", "_end", "_form", "_half", "_keys", "_lengths", "_mask", "_modifier", "_ndim",
        "_packed_keys", "_rows", "_score", "_shared", "_table", "_tk", "_values", "_width",
    )  # fmt: skip

    def __init__(
        self,
        score: Score,
        key: Array,
        value: Array,
        lengths: Array | None,
        mask: Array | None,
        modifier: "ScoreModifier | None",
        allow: "MaskFunction | None",
        half: np.dtype[Any] | None = None,
        stored: np.dtype[Any] | None = None,
    ) -> None:
        self._score = score
        # The half type that queries and contexts are of; keys and values are of float32 or, if they are kept so, of
        # a half type or rows of int8 with their scales, whatever that of queries is.
        self._half = half
        self._modifier = modifier
        self._allow = allow
        self._ndim = key.ndim
        self._width = key.shape[-1]
        self._tk = key.shape[-2]
        self._lengths = lengths
        self._mask = mask
        # Which row of the storage a batch entry is: for all positions, or (positions, batch) for each; else the same.
        self._rows: Array | None = None
        self._table: Array | None = None
        self._beams = 1  # neighbours that are always the same row of the storage
        self._shared = True  # key and value are the caller's
        self._end = [key.shape[-2]]  # positions written in the storage, of all memories that share it
        self._form: Array | None = None
        self._keep(_four_axes(core.unit(score.project_key(key))), _four_axes(value), stored)

    def _keep(self, keys: Array, values: Array, stored: np.dtype[Any] | None) -> None:
        if stored is not None and _is_narrow(stored):
            keys, values = _kept_as(stored, keys), _kept_as(stored, values)
        self._keys, self._values = keys, values
        self._packed_keys: Array | None = None
        if self._packs(self._tk):
            self._packed_keys = packed_keys(self._score, keys, 0, self._tk)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the keys without their width."""
        full = (self._batch, self._keys.shape[1], self._tk)
        return (self._tk,) if self._ndim == 2 else (full[0], self._tk) if self._ndim == 3 else full

    @property
    def nbytes(self) -> int:
        """Bytes that keys and values take."""
        arrays = (self._keys, self._values, self._packed_keys)
        return sum(array.nbytes for array in arrays if array is not None)

    @property
    def _kept(self) -> bool:
        """Whether keys and values are of a type that is not computed with."""
        return _is_narrow(self._keys.dtype)

    def _packs(self, count: int) -> bool:
        """Whether so many keys are packed once for all calls: those of an additive score, as exponentials, and few.

        Many come from memory, and are packed by a call meanwhile, sooner than panels come, which lie a line here and
        one there: 32 x 8 x 20 to 512 keys of 64 take 0.7 to 0.95 of the time. What the caches hold, 1 x 1 x 512 keys,
        takes 1.3 times as long.
        """
        if self._table is not None or self._kept:
            return False
        _, heads, _, width = self._keys.shape
        size = self._batch * heads * count * width * self._keys.itemsize
        return self._score.kernel == KERNEL_ADDITIVE or size <= MOST_PACKED

    @property
    def _value_width(self) -> int:
        return self._values.shape[-1] - (SCALE_BYTES if self._values.dtype == _INT8 else 0)

    @property
    def _real(self) -> np.dtype[Any]:
        """The type that is computed with."""
        return _FLOAT32 if self._kept else self._keys.dtype

    @property
    def _dtype(self) -> np.dtype[Any]:
        return self._real if self._half is None else self._half

    @property
    def _batch(self) -> int:
        if self._table is not None:
            return int(self._table.shape[1])
        return self._keys.shape[0] if self._rows is None else len(self._rows)

    # fmt: off
    @overload
    def attend(
        self, query: Array, *,
        return_weights: Literal[False] = False, return_lse: Literal[False] = False, **options: Unpack[MemoryOptions],
    ) -> Array: ...
    @overload
    def attend(
        self, query: Array, *,
        return_weights: Literal[True], return_lse: bool = False, **options: Unpack[MemoryOptions],
    ) -> AttentionOutput: ...
    @overload
    def attend(
        self, query: Array, *,
        return_weights: bool = False, return_lse: Literal[True], **options: Unpack[MemoryOptions],
    ) -> AttentionOutput: ...
    @overload
    def attend(
        self, query: Array, *,
        return_weights: bool = False, return_lse: bool = False, **options: Unpack[MemoryOptions],
    ) -> Array | AttentionOutput: ...
    # fmt: on
    def attend(
        self,
        query: Array,
        *,
        score_mod: Modifier | None = None,
        normalizer: NormalizerLike = "softmax",
        mask: Mask | None = None,
        causal: Causal = None,
        window: tuple[int | None, int | None] | None = None,
        bias: Array | RelativeBias | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
        seed: int | Array | None = None,
        first: int = 0,
        return_weights: bool = False,
        return_lse: bool = False,
        out: Array | None = None,
    ) -> Array | AttentionOutput:
        """Attend to this memory; arguments and result as for `fastattn.attention`.

        Parameters
        ----------
        query : array, shape (..., Tq, Dq)
            Of the rank and batch of the memory.
        score_mod, normalizer, mask, causal, window, bias, scale, dropout, seed, return_weights, return_lse, out
            As for `fastattn.attention`; `mask` is combined with the memory's own, and `score_mod` is for a memory that
            has none.
        first : int
            The place of the first query, from which functions of places, the memory's too, count i: of a decoder's
            step, how many were before it. `causal` and `window` do not know it; ``causal="bottom_right"`` has the last
            query see all keys.

        Returns
        -------
        array or AttentionOutput
        """
        score, keys, tk = self._score, self._keys, self._tk
        asked, half = query, self._half
        kept = _is_narrow(keys.dtype)
        real = _FLOAT32 if kept else keys.dtype
        query = inputs = self._check_query(query)
        if half is not None:
            query = widened(query)
            if bias is not None and not isinstance(bias, RelativeBias):
                bias = as_array("bias", bias)
                bias = widened(bias) if bias.dtype == half else bias
        if return_weights is not False or return_lse is not False:
            return_weights = check_flag("return_weights", return_weights)
            return_lse = check_flag("return_lse", return_lse)
        sparse = None
        if not isinstance(normalizer, str) or normalizer != "softmax":
            made = resolve_normalizer(normalizer)
            made = made if first == 0 else made.placed(_place(first))
            sparse = check_sparse(made, query.dtype, query.shape, tk, return_lse)
        if self._form is None:
            # Of the shape that the keys would have in `attention`, and of no memory.
            shape = (*self.shape, self._width)
            self._form = np.ndarray(shape, real, _ZERO, strides=(0,) * len(shape))  # broadcast_to takes 6 us
        score.check(query, self._form)
        rows = query.shape[:-1]
        allow = self._allow
        if self._mask is not None:
            own = check_mask(self._mask, (*rows, tk))
            if is_function(mask):
                function = as_mask(mask)
                mask, allow = own, function if allow is None else allow & function
            else:
                mask = own if mask is None else own & check_mask(mask, (*rows, tk))
        modifier = self._modifier
        if score_mod is not None:
            if modifier is not None:
                hint = "prepare a memory without score_mod, and pass one to attend()."
                raise ArgumentError(describe("score_mod", "None for a memory that has one", "a function", hint))
            modifier = as_modifier(score_mod)
        if first != 0:
            first = _place(first)
            modifier = None if modifier is None else modifier.placed(first)
            allow = None if allow is None else allow.placed(first)
            mask = as_mask(mask).placed(first) if is_function(mask) else mask
        given = options = check_options(
            query, tk, modifier, mask, None, causal, window, bias, dropout, seed, allow=allow
        )
        factor = score.default_scale(self._width) if scale is None else check_scale(scale, real)
        of_kernel = kernel_score(score, real, self._width)
        projected, extra = query, options.bias
        if score.projects:
            projected = core.unit(score.project_query(query))
            location = score.project_bias(query, tk, factor)
            if location is not None:
                extra = location if extra is None else location + extra
        if modifier is not None:
            check_modified(score, modifier, extra is not options.bias)
        if self._lengths is not None or extra is not options.bias:
            # The lengths were checked when the memory was made, and are nobody else's.
            options = options.replace(extra, self._lengths)
        values, table, tiled, as_kept = self._values, self._table, False, 0
        if kept:
            other = sparse is not None or score.projects
            as_given = half is not None and keys.dtype == half
            tiled = as_given and on_tiles(keys.dtype, self._width, of_kernel, factor, options, other)
            as_kept = 0 if tiled or sparse is not None else core.KEPT.get(keys.dtype.name, 0)
        if table is not None and (sparse is not None or (kept and not as_kept)):
            # Kernels of sparse weights read every key several times, and those on tiles know no table: what it names is
            # brought together for them, and for a copy in float32, for which rows that none names have no numbers.
            at = np.arange(tk)[:, None]
            keys, values = (np.ascontiguousarray(np.moveaxis(x[table, :, at], 0, 2)) for x in (keys, values))
            table = None
        if kept:
            if not tiled and not as_kept:
                keys, values = _computed(keys[:, :, :tk]), _computed(values[:, :, :tk])
            elif keys.dtype != _INT8:
                keys, values = keys.view(np.uint16), values.view(np.uint16)
            projected = inputs.view(np.uint16) if tiled else projected
        beams = self._beams
        if beams > 1 and options.only_lengths and sparse is None and query.shape[-2] == 1 and out is None:
            # They are computed as that many queries of one batch entry: keys and values are read once for all.
            found = self._attend_beams(projected, keys, values, of_kernel, factor, return_weights, return_lse, as_kept)
            return handed_back(asked, out, found if half is None else _rounded(found, half))
        stored = core.Keys(keys, values, self._packed_keys, self._rows, table, tk, as_kept)
        call = core.Call(projected, stored, of_kernel, factor, options, sparse)
        shape = (*rows, self._value_width)
        if out is None:
            context = target = allocate("context", shape, query.dtype)
        else:
            every = (inputs, keys, self._values)
            context, target = check_output(out, shape, query.dtype if half is None else half, every, given)
            if half is not None:
                context = allocate("context", shape, query.dtype)
        if tiled:
            context = allocate("context", shape, projected.dtype)
        weights = allocate("weights", (*rows, tk), query.dtype) if return_weights else None
        lse = np.empty(rows, query.dtype) if return_lse else None
        call.forward(context, weights, lse, None, None)
        if half is not None:
            rounded, weights, lse = _rounded(AttentionOutput(context, weights, lse), half)
            if out is None:
                target = rounded
            else:
                target[...] = rounded
        elif context is not target:
            target[...] = context
        found = AttentionOutput(target, weights, lse) if return_weights or return_lse else target
        return found if out is None and type(asked) is np.ndarray else handed_back(asked, out, found)

    def _attend_beams(
        self,
        query: Array,
        keys: Array,
        values: Array,
        score: core.KernelScore,
        factor: float,
        weights: bool,
        lse: bool,
        kept: int,
    ) -> Array | AttentionOutput:
        beams, lengths = self._beams, self._lengths
        assert self._rows is not None
        batch, rows = len(query) // beams, query.shape[:-1]

        def together(array: Array) -> Array:  # (B, [H,] 1, N) as (B / beams, H, beams, N)
            return array.reshape(batch, beams, -1, array.shape[-1]).transpose(0, 2, 1, 3)

        entries = np.ascontiguousarray(self._rows[::beams])
        options = core.Options(key_lengths=None if lengths is None else np.ascontiguousarray(lengths[::beams]))
        stored = core.Keys(keys, values, self._packed_keys, entries, None, self._tk, kept)
        call = core.Call(together(query), stored, score, factor, options)
        context = allocate("context", (*rows, self._value_width), query.dtype)
        heads = math.prod(rows) // len(query)
        real = _FLOAT32 if query.dtype == np.uint16 else query.dtype
        found = allocate("weights", (batch, heads, beams, self._tk), real) if weights else None
        sums = np.empty((batch, heads, beams), real) if lse else None
        call.forward(together(context), found, sums, None, None)
        if not weights and not lse:
            return context
        return AttentionOutput(
            context,
            None if found is None else found.transpose(0, 2, 1, 3).reshape(*rows, self._tk),
            None if sums is None else sums.transpose(0, 2, 1).reshape(rows),
        )

    def select(self, rows: Array) -> "Memory":
        """Return a memory whose batch entry i is this one's entry ``rows[i]``; nothing is copied.

        Parameters
        ----------
        rows : int array, shape (B',)
            Entries may repeat (beams) or be left out.

        Returns
        -------
        Memory
        """
        if self._ndim == 2:
            hint = "prepare key[None], value[None]."
            raise UnsupportedError(describe("rows", "a memory with a batch axis", "one of a single sample", hint))
        if any(one is not None and "b" in one.inputs for one in (self._modifier, self._allow)):
            hint = "pass score_mod= and mask= to attend(), whose batch entries are those of the query."
            raise UnsupportedError(describe("rows", "a memory without functions of b", "one with such", hint))
        return self._at(row_array(rows, self._batch))

    def _at(self, index: Array) -> "Memory":
        """As `select`, for rows that were checked."""
        other = self._again()
        other._form = None
        if self._table is not None:
            other._table = np.ascontiguousarray(self._table[:, index])
        else:
            other._rows = np.ascontiguousarray(index if self._rows is None else self._rows[index])
            other._beams = _neighbours(other._rows)
        other._lengths = None if self._lengths is None else np.ascontiguousarray(self._lengths[index])
        if self._mask is not None and self._mask.ndim == self._ndim and self._mask.shape[0] != 1:
            other._mask = self._mask[index]
        return other

    def stored(self, storage: object) -> "Memory":
        """Return this memory kept in another element type; this one does not change.

        Parameters
        ----------
        storage : dtype
            As for `prepare`, of which the result is, where nothing was rounded before, that of the same `storage`.

        Returns
        -------
        Memory
            What it is extended by is kept in that type too.

        Examples
        --------
        >>> import numpy as np, fastattn
        >>> states = np.ones((2, 50, 60), np.float32)
        >>> fastattn.prepare(states, states).stored(np.int8).nbytes / (2 * states.nbytes)
        0.26666666666666666
        """
        stored, other = _stored(storage, self._dtype), self._again()
        if stored != self._keys.dtype:
            keys, values = (x[:, :, : self._tk] for x in (self._keys, self._values))
            if self._kept:
                keys, values = _computed(keys), _computed(values)
            other._shared, other._end = False, [self._tk]
            other._keep(keys, values, stored)
        return other

    def append(self, key: Array, value: Array) -> "Memory":
        """Add positions at the end, as a decoder's cache does; returns the memory itself.

        Parameters
        ----------
        key : array, shape (..., T, Dk)
        value : array, shape (..., T, Dv)

        Returns
        -------
        Memory
            This one. Memories that share its keys through `select` or `extended` do not change.

        Notes
        -----
        Space grows by doubling; T positions cost the packing of at most T + 63 keys of an additive score. Other scores'
        keys, which `prepare` may have packed, are not from now on: `attend` reads them as they lie. After `select`
        nothing is packed and nothing is copied, until the space is used up or is too small for the rows: a table says
        where the keys of each position are.
        """
        key, value = check_memory(key, value)
        if key.dtype.char != self._dtype.char:
            expected = f"{self._dtype}, the dtype of the memory"
            raise DTypeError(describe("key", expected, key.dtype, cast("key", key, self._dtype)))
        for name, array, width in (("key", key, self._width), ("value", value, self._value_width)):
            if array.ndim != self._ndim or array.shape[-1] != width or array.shape[:-2] != self.shape[:-1]:
                expected = f"shape ({', '.join(map(str, (*self.shape[:-1], 'T', width)))})"
                raise ShapeError(
                    describe(name, expected, f"shape {array.shape}", "append what the memory was prepared from.")
                )
        if self._lengths is not None or (self._mask is not None and self._mask.ndim and self._mask.shape[-1] != 1):
            hint = "pass mask= to attend() instead, which may have the new length."
            raise UnsupportedError(describe("append", "a memory without key_lengths and mask", "one with them", hint))
        if self._half is not None and (self._score.projects or self._keys.dtype != self._half):
            key, value = widened(key), widened(value)
        projected = core.unit(self._score.project_key(key))
        if self._kept:
            projected, value = (_kept_as(self._keys.dtype, x) for x in (projected, value))
        new, batch, tk = _four_axes(projected), self._batch, self._tk
        total = tk + key.shape[-2]
        # A step adds a key and reads all once. To pack its panel for one reading takes longer than to read keys as they
        # lie: a step 1.2 times with 1 x 8 x 60 keys of 64, 1.6 with 4 x 8 x 20, 2.5 with 32 x 8 x 20. Exponentials of
        # additive scores are kept.
        additive = self._score.kernel == KERNEL_ADDITIVE
        if not additive:
            self._packed_keys = None
        if self._shared or self._end[0] != tk or total > self._keys.shape[2] or batch > len(self._keys):
            self._own(max(total, 2 * tk, 16))
        self._keys[:batch, :, tk:total] = new
        self._values[:batch, :, tk:total] = _four_axes(value)
        if self._rows is not None:
            self._table, self._rows, self._beams = np.repeat(self._rows[None], tk, axis=0), None, 1
        if self._table is not None:
            self._packed_keys = None
            self._table = np.concatenate([self._table, np.repeat(np.arange(batch)[None], total - tk, axis=0)])
        elif additive and not self._kept:
            width = core.panel_width(self._keys)
            self._packed_keys = packed_keys(self._score, self._keys, tk // width * width, total, self._packed_keys)
        self._tk = self._end[0] = total
        self._form = None
        return self

    def extended(self, key: Array, value: Array) -> "Memory":
        """Return a memory with positions added at the end; this one does not change.

        Parameters
        ----------
        key : array, shape (..., T, Dk)
        value : array, shape (..., T, Dv)

        Returns
        -------
        Memory
            It shares the space of this one where it is the first to go on from its last position, so that a chain of
            extensions costs what `append` costs.

        Examples
        --------
        >>> import numpy as np, fastattn
        >>> states = np.ones((2, 5, 4), np.float32)
        >>> memory = fastattn.prepare(states, states)
        >>> longer = memory.extended(states[:, :1], states[:, :1])
        >>> memory.shape, longer.shape
        ((2, 5), (2, 6))
        """
        return self._again().append(key, value)

    def _again(self) -> "Memory":
        other: Memory = object.__new__(Memory)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def _own(self, capacity: int) -> None:
        """Move to storage of this memory alone, in its own batch order, with room for `capacity` positions."""
        keys, values, panels, tk = self._keys, self._values, self._packed_keys, self._tk
        batch = self._batch
        leading = (batch, keys.shape[1])
        new_keys, new_values = _room(batch, capacity, keys), _room(batch, capacity, values)
        table = self._table
        if table is None and self._rows is not None:
            table = np.repeat(self._rows[None], tk, axis=0)
        if table is not None:
            for at, rows in enumerate(table):
                new_keys[:, :, at], new_values[:, :, at] = keys[rows, :, at], values[rows, :, at]
            # One selection, as of beams, is likely to be followed by others.
            self._table, self._rows, self._packed_keys = np.repeat(np.arange(batch)[None], tk, axis=0), None, None
            self._beams = 1
        else:
            new_keys[:, :, :tk], new_values[:, :, :tk] = keys[:, :, :tk], values[:, :, :tk]
        if table is None and panels is not None:
            used = core.panel_elements(keys, self._score.kernel, tk)
            elements = core.panel_elements(keys, self._score.kernel, capacity)
            new_panels = core.aligned_empty((*leading, elements), panels.dtype)
            new_panels[:, :, :used] = panels[:, :, :used]
            self._packed_keys = new_panels
        self._keys, self._values = new_keys, new_values
        self._shared = False
        self._end = [tk]

    def _check_query(self, query: Array) -> Array:
        dtype = self._dtype
        if type(query) is not _NDARRAY or query.dtype is not dtype:
            query = check_array("query", query)
            if query.dtype.char != dtype.char:
                expected = f"{dtype}, the dtype of the memory"
                raise DTypeError(describe("query", expected, query.dtype, cast("query", query, dtype)))
        if query.ndim != self._ndim or (query.ndim > 2 and query.shape[0] != self._batch):
            expected = f"{self._ndim} axes and batch size {self._batch}"
            hint = f"the memory has shape {self.shape}; use memory.select(rows) for beams."
            raise ShapeError(describe("query", expected, f"shape {query.shape}", hint))
        heads = self._keys.shape[1]
        if query.ndim == 4 and query.shape[1] != heads and (heads == 0 or query.shape[1] % heads):
            expected = f"a multiple of the memory's {heads} heads"
            raise ShapeError(describe("query", expected, f"shape {query.shape}", "match the heads."))
        return core.unit(query)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in self.__slots__}
        there = {"_keys": self._keys[:, :, : self._tk], "_values": self._values[:, :, : self._tk], "_end": [self._tk]}
        # What is packed is a copy in a form that belongs to the kernels: it is made anew where this arrives.
        return {**state, **there, "_shared": True, "_packed_keys": None, "_form": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._keys, self._values = core.unit(self._keys), core.unit(self._values)
        if self._packs(self._tk):
            self._packed_keys = packed_keys(self._score, self._keys, 0, self._tk)

    def __repr__(self) -> str:
        kept = "" if self._keys.dtype == self._dtype else f", storage={self._keys.dtype}"
        return f"Memory(shape={self.shape}, score={self._score!r}, dtype={self._dtype}{kept})"


def _place(first: object) -> int:
    return check_size("first", first, 0, "pass how many queries were before this one.")


def _kept_as(stored: np.dtype[Any], array: Array) -> Array:
    """Return an array of float32, or already of the half type, in a narrow type."""
    if stored == _INT8:
        return rows_of_int8(array)
    return array if array.dtype == stored else narrowed(array, stored)


def _computed(array: Array) -> Array:
    """Return what `_kept_as` returned in float32."""
    return rows_widened(array) if array.dtype == _INT8 else widened(array)


def _rounded(found: Any, half: np.dtype[Any]) -> Any:
    """Return a context, of float32 or of bits, or an output, in a half type; the lse stays float32."""
    if not isinstance(found, AttentionOutput):
        return found.view(half) if found.dtype == np.uint16 else narrowed(found, half)
    weights = None if found.weights is None else narrowed(found.weights, half)
    return AttentionOutput(_rounded(found.context, half), weights, found.lse)


def _room(batch: int, capacity: int, like: Array) -> Array:
    """Return storage (B, H, capacity, N) for rows of the heads and the width of `like`.

    Of few positions all heads of one lie side by side: a position is written in one piece, and where there is room for
    more than there are, what is read has fewer gaps. A step over 32 x 8 x 10 keys of 64 with room for 32 takes 0.83 of
    the time, over 20 of 32 0.95, over 32 of 32 1.05, over 1 x 8 x 512 keys 1.25.
    """
    _, heads, _, width = like.shape
    if capacity * heads * width * like.itemsize <= MOST_BESIDE:
        return core.aligned_empty((batch, capacity, heads, width), like.dtype).transpose(0, 2, 1, 3)
    return core.aligned_empty((batch, heads, capacity, width), like.dtype)


def _neighbours(rows: Array) -> int:
    """Return the largest number n such that entries 0 to n - 1 of rows are equal, n to 2 n - 1 are, and so on."""
    if not rows.size:
        return 1
    other = rows != rows[0]
    count = int(other.argmax()) if other.any() else len(rows)
    regular = len(rows) % count == 0 and bool((rows.reshape(-1, count) == rows[::count, None]).all())
    return count if regular else 1


def _four_axes(array: Array) -> Array:
    return array[None, None] if array.ndim == 2 else array[:, None] if array.ndim == 3 else array


def packed_keys(score: Score, keys: Array, first: int, last: int, panels: Array | None = None) -> Array:
    """Return the panels of keys (B, H, T, D), those from first to last packed; the others are as in `panels`.

    Parameters
    ----------
    score : Score
        The kernel's, without projections.
    keys : array, shape (B, H, T, D)
    first, last : int
    panels : array, shape (B, H, elements), optional
        With room for `last` keys; by default new.
    """
    if panels is None:
        elements = core.panel_elements(keys, score.kernel, last)
        panels = core.aligned_empty((*keys.shape[:2], elements), keys.dtype)
    if last > first and keys.size:
        core.pack_keys(keys, kernel_score(score, keys.dtype), first, last, panels)
    return panels
