"""Memories prepared once and attended to many times: encoder states in a decoder, beams, key-value caches."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn._arguments import check_arrays, check_normalizer, check_options, check_output, check_size, length_array
from fastattn._arguments import score_arrays
from fastattn._kernels import core
from fastattn.attention import AttentionOutput, check_scale
from fastattn.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError, describe
from fastattn.scores.base import Score, resolve

__all__ = ["Memory", "prepare"]

Array = NDArray[Any]


def prepare(
    key: Array,
    value: Array,
    *,
    score: str | Score = "scaled_dot",
    key_lengths: Array | None = None,
    mask: Array | None = None,
) -> "Memory":
    """Project and pack the keys of a memory once, for many calls of `Memory.attend`.

    Parameters
    ----------
    key : array, shape (..., Tk, Dk)
    value : array, shape (..., Tk, Dv)
        Read in place until `Memory.append` is called; do not change it meanwhile.
    score : str or Score
        Its parameters are read now; later changes to them have no effect.
    key_lengths : int array, shape (B,), optional
    mask : bool array, broadcastable to (..., 1, Tk) or (..., Tq, Tk), optional
        True = may attend, for every query that will come.

    Returns
    -------
    Memory

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        As `fastattn.attention`.

    Notes
    -----
    ``memory.attend(q)`` has the same bits as ``attention(q, key, value, ...)``.

    Examples
    --------
    >>> import numpy as np, fastattn
    >>> states = np.ones((2, 5, 4), np.float32)
    >>> memory = fastattn.prepare(states, states)
    >>> memory.attend(np.ones((2, 1, 4), np.float32)).shape
    (2, 1, 4)
    """
    chosen = resolve(score)
    # Keys are checked as queries would be: query's own width is known when a query comes.
    _, key, value = check_arrays(key, key, value)
    if chosen.parameters:
        score_arrays(chosen, key.dtype)
    batch = key.shape[0] if key.ndim > 2 else 1
    keys = key.shape[-2]
    if key_lengths is not None:
        key_lengths = length_array(key_lengths, batch, keys)
    if mask is not None:
        mask = np.asarray(mask)
        if mask.dtype != np.bool_:
            raise DTypeError(
                describe("mask", "a bool array", mask.dtype, "pass mask.astype(bool) with True = may attend.")
            )
        if mask.ndim < 1 or mask.ndim > key.ndim or mask.shape[-1] not in (1, keys):
            raise ShapeError(
                describe("mask", f"a shape that broadcasts to (..., Tq, {keys})", f"shape {mask.shape}",
                         "the last axis of the mask is over keys.")
            )  # fmt: skip
    return Memory(chosen, key, value, key_lengths, mask)


class Memory:
    """Keys, projected and packed, and their values. Made by `prepare`.

    Attributes
    ----------
    shape : tuple of int
        Of the keys without their width: (Tk,), (B, Tk) or (B, Hk, Tk).
    """

    __slots__ = (
        "_keys", "_lengths", "_mask", "_ndim", "_packed_keys", "_product", "_rows", "_score", "_shared", "_tk", "_values",
        "_width",
    )  # fmt: skip

    def __init__(self, score: Score, key: Array, value: Array, lengths: Array | None, mask: Array | None) -> None:
        self._score = score
        self._ndim = key.ndim
        self._width = key.shape[-1]
        self._tk = key.shape[-2]
        self._lengths = lengths
        self._mask = mask
        self._rows: Array | None = None
        self._shared = True  # key and value are the caller's
        self._product: linear.PackedWeights | None = None
        self._keys = _four_axes(core.unit(score.project_key(key)))
        self._values = _four_axes(value)
        self._packed_keys = self._pack(self._keys, 0, self._tk, None)

    @property
    def shape(self) -> tuple[int, ...]:
        full = (self._batch, self._keys.shape[1], self._tk)
        return (self._tk,) if self._ndim == 2 else (full[0], self._tk) if self._ndim == 3 else full

    @property
    def _batch(self) -> int:
        return self._keys.shape[0] if self._rows is None else len(self._rows)

    def attend(
        self,
        query: Array,
        *,
        normalizer: str = "softmax",
        mask: Array | None = None,
        causal: str | bool | None = None,
        window: tuple[int | None, int | None] | None = None,
        bias: Array | None = None,
        scale: float | None = None,
        dropout: float = 0.0,
        seed: int | Array | None = None,
        return_weights: bool = False,
        return_lse: bool = False,
        out: Array | None = None,
    ) -> Array | AttentionOutput:
        """Attend to this memory; arguments and result as for `fastattn.attention`.

        Parameters
        ----------
        query : array, shape (..., Tq, Dq)
            Of the rank and batch of the memory.
        normalizer, mask, causal, window, bias, scale, dropout, seed, return_weights, return_lse, out
            As for `fastattn.attention`; `mask` is combined with the memory's own.

        Returns
        -------
        array or AttentionOutput
        """
        score = self._score
        query = self._check_query(query)
        check_normalizer(normalizer)
        score.check(query, np.broadcast_to(self._keys.dtype.type(0), (*query.shape[:-2], self._tk, self._width)))
        if self._mask is not None:
            mask = self._mask if mask is None else np.logical_and(self._mask, mask)
        options = check_options(query, self._tk, mask, self._lengths, causal, window, bias, dropout, seed)
        factor = check_scale(scale, score, self._width)
        projected = self._project(query)
        extra = score.project_bias(query, self._tk, factor)
        total = options.bias if extra is None else extra if options.bias is None else extra + options.bias
        vector = score.parameters.get("v")
        call = core.Call(
            projected, self._keys, self._values, score.kernel, score.activation_code,
            None if vector is None else core.unit(vector), factor, score.softcap or 0.0, options.mask, total,
            options.key_lengths, options.causal, options.left, options.right, options.seeds, options.drop_below,
            options.keep_scale, self._packed_keys, self._rows, self._tk,
        )  # fmt: skip
        rows = query.shape[:-1]
        shape = check_size("context", (*rows, self._values.shape[-1]), 8)
        if out is not None:
            check_output(out, shape, query.dtype, (query, self._values))
        direct = out is not None and core.unit(out) is out
        context = out if direct else np.empty(shape, query.dtype)
        weights = np.empty(check_size("weights", (*rows, self._tk), 8), query.dtype) if return_weights else None
        lse = np.empty(rows, query.dtype) if return_lse else None
        call.forward(context, weights, lse, None, None)
        if out is not None and not direct:
            out[...] = context
            context = out
        return AttentionOutput(context, weights, lse) if return_weights or return_lse else context

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
        index = np.asarray(rows)
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise DTypeError(
                describe("rows", "a 1-D array of integers", f"{index.dtype} of shape {index.shape}", "pass batch entries.")
            )
        if self._ndim == 2:
            raise UnsupportedError(
                describe("rows", "a memory with a batch axis", "one of a single sample", "prepare key[None], value[None].")
            )
        if index.size and not 0 <= int(index.min()) <= int(index.max()) < self._batch:
            raise ArgumentError(
                describe("rows", f"entries from 0 to {self._batch - 1}", f"{index.min()} to {index.max()}",
                         "they index the batch of the memory.")
            )  # fmt: skip
        index = index.astype(np.int64)
        other: Memory = object.__new__(Memory)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        self._shared = other._shared = True
        other._rows = np.ascontiguousarray(index if self._rows is None else self._rows[index])
        other._lengths = None if self._lengths is None else np.ascontiguousarray(self._lengths[index])
        if self._mask is not None and self._mask.ndim == self._ndim and self._mask.shape[0] != 1:
            other._mask = self._mask[index]
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
            This one. Memories that share its keys through `select` do not change.

        Notes
        -----
        Space grows by doubling; T positions cost the packing of at most T + 63 keys.
        """
        _, key, value = check_arrays(key, key, value)
        wanted = (self._batch, self._keys.shape[1], self._width, self._values.shape[-1], self._ndim)
        batch, heads = _four_axes(key).shape[:2]
        if (batch, heads, key.shape[-1], value.shape[-1], key.ndim) != wanted or key.dtype != self._keys.dtype:
            raise ShapeError(
                describe("key", f"{self._keys.dtype} with batch, heads, Dk, Dv, axes = {wanted}",
                         f"{key.dtype}, {key.shape} and value {value.shape}", "append what the memory was prepared from.")
            )  # fmt: skip
        if self._lengths is not None or (self._mask is not None and self._mask.shape[-1] != 1):
            raise UnsupportedError(
                describe("append", "a memory without key_lengths and mask", "one with them",
                         "pass mask= to attend() instead, which may have the new length.")
            )  # fmt: skip
        new = _four_axes(core.unit(self._score.project_key(key)))
        total = self._tk + key.shape[-2]
        if self._shared or total > self._keys.shape[2]:
            self._own(max(total, 2 * self._tk, 16))
        self._keys[:, :, self._tk : total] = new
        self._values[:, :, self._tk : total] = _four_axes(value)
        width = core.panel_width(self._keys)
        self._packed_keys = self._pack(self._keys, self._tk // width * width, total, self._packed_keys)
        self._tk = total
        return self

    def _own(self, capacity: int) -> None:
        """Move to storage of this memory alone, in its own batch order, with room for `capacity` positions."""
        rows = slice(None) if self._rows is None else self._rows
        keys, values, panels = self._keys[rows], self._values[rows], self._packed_keys[rows]
        self._keys = np.empty((*keys.shape[:2], capacity, keys.shape[3]), keys.dtype)
        self._values = np.empty((*values.shape[:2], capacity, values.shape[3]), values.dtype)
        self._keys[:, :, : self._tk] = keys[:, :, : self._tk]
        self._values[:, :, : self._tk] = values[:, :, : self._tk]
        elements = core.panel_elements(self._keys, self._score.kernel, capacity)
        self._packed_keys = np.empty((*panels.shape[:2], elements), panels.dtype)
        used = core.panel_elements(self._keys, self._score.kernel, self._tk)
        self._packed_keys[:, :, :used] = panels[:, :, :used]
        self._rows = None
        self._shared = False

    def _pack(self, keys: Array, first: int, last: int, panels: Array | None) -> Array:
        if panels is None:
            elements = core.panel_elements(keys, self._score.kernel, last)
            panels = np.empty((*keys.shape[:2], elements), keys.dtype)
        if last > first and keys.size:
            core.pack_keys(keys, self._score.kernel, self._score.activation_code, first, last, panels)
        return panels

    def _check_query(self, query: Array) -> Array:
        query = check_arrays(query, query, query)[0]
        if query.dtype.char != self._keys.dtype.char:
            raise DTypeError(
                describe("query", f"{self._keys.dtype}, the dtype of the memory", query.dtype, "cast one of them.")
            )
        if query.ndim != self._ndim or (query.ndim > 2 and query.shape[0] != self._batch):
            raise ShapeError(
                describe("query", f"{self._ndim} axes and batch size {self._batch}", f"shape {query.shape}",
                         f"the memory has shape {self.shape}; use memory.select(rows) for beams.")
            )  # fmt: skip
        heads = self._keys.shape[1]
        if query.ndim == 4 and query.shape[1] != heads and (heads == 0 or query.shape[1] % heads):
            raise ShapeError(
                describe("query", f"a multiple of the memory's {heads} heads", f"shape {query.shape}", "match the heads.")
            )
        return query

    def _project(self, query: Array) -> Array:
        weight = self._score.query_weight(query.shape[-1])
        if weight is None:
            return core.unit(self._score.project_query(query))
        if self._product is None:
            self._product = linear.PackedWeights(weight)
        return core.unit(self._score.project_query(query, self._product.matmul))

    def __repr__(self) -> str:
        return f"Memory(shape={self.shape}, score={self._score!r}, dtype={self._keys.dtype})"


def _four_axes(array: Array) -> Array:
    return array[None, None] if array.ndim == 2 else array[:, None] if array.ndim == 3 else array
