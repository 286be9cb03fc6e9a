"""Checks of the arguments of attention, and their translation into what the kernels take.

Everything that can be wrong with a call is found here, before anything is computed; `fastattn._kernels.core` trusts it.
"""

import difflib
import operator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastattn._kernels import core
from fastattn.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError, describe
from fastattn.scores.base import Score

__all__ = ["Options", "check_arrays", "check_normalizer", "check_options", "check_output", "length_array"]

Array = NDArray[Any]
_LARGEST = 2**62  # bytes of one array, and the largest index distance
_CAUSAL = {None: 0, "top_left": 1, "bottom_right": 2}


class Options(NamedTuple):
    """What `core.Call` takes after the score: see its arguments of the same names."""

    mask: Array | None
    bias: Array | None
    key_lengths: Array | None
    causal: int
    left: int
    right: int
    seeds: Array | None
    drop_below: int
    keep_scale: float


def check_arrays(query: object, key: object, value: object) -> tuple[Array, Array, Array]:
    """Return query, key and value as arrays that the kernels can read, or raise."""
    arrays = []
    for name, given in (("query", query), ("key", key), ("value", value)):
        array = given if type(given) is np.ndarray else _as_array(name, given)
        char = array.dtype.char
        if char != "f" and char != "d":
            raise DTypeError(
                describe(name, "a float32 or float64 array", array.dtype, f"pass {name}.astype(np.float32), say.")
            )
        arrays.append(array)
    q, k, v = arrays
    if q.dtype.char != k.dtype.char or q.dtype.char != v.dtype.char:
        name, other = ("key", k) if q.dtype.char != k.dtype.char else ("value", v)
        raise DTypeError(
            describe(name, f"{q.dtype}, the dtype of query", other.dtype, f"pass {name}.astype({name_of(q.dtype)}).")
        )
    if not 2 <= q.ndim <= 4:
        raise ShapeError(
            describe("query", "2, 3 or 4 axes: (..., Tq, Dk)", f"shape {q.shape}", "add or merge leading axes by reshape.")
        )
    for name, array in (("key", k), ("value", v)):
        if array.ndim != q.ndim:
            raise ShapeError(
                describe(name, f"{q.ndim} axes, as query has", f"shape {array.shape}", f"query has shape {q.shape}.")
            )
        if q.ndim > 2 and array.shape[0] != q.shape[0]:
            raise ShapeError(
                describe(name, f"batch size {q.shape[0]}, that of query", f"shape {array.shape}",
                         f"repeat the smaller one, for instance by np.broadcast_to; query has shape {q.shape}.")
            )
    if k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            describe("value", f"{k.shape[-2]} positions, as key has", f"shape {v.shape}", f"key has shape {k.shape}.")
        )
    if q.ndim == 4:
        heads, key_heads = q.shape[1], k.shape[1]
        if v.shape[1] != key_heads:
            raise ShapeError(
                describe("value", f"{key_heads} heads, as key has", f"shape {v.shape}", f"key has shape {k.shape}.")
            )
        if key_heads != heads and (key_heads == 0 or heads % key_heads):
            raise ShapeError(
                describe("key", f"a number of heads that divides query's {heads}", f"{key_heads} heads, shape {k.shape}",
                         "for grouped queries the heads of query are a multiple of those of key and value.")
            )
    return core.unit(q), core.unit(k), core.unit(v)


def check_normalizer(normalizer: object) -> None:
    """Raise unless the normalizer exists."""
    if normalizer != "softmax":
        if not isinstance(normalizer, str):
            raise DTypeError(describe("normalizer", "a name", type(normalizer).__name__, 'pass "softmax".'))
        close = difflib.get_close_matches(normalizer, ["softmax"], n=1)
        hint = "did you mean 'softmax'?" if close else "softmax is the one there is."
        raise ArgumentError(describe("normalizer", "'softmax'", repr(normalizer), hint))


def check_options(
    query: Array,
    keys: int,
    mask: object,
    key_lengths: object,
    causal: object,
    window: object,
    bias: object,
    dropout: float,
    seed: object,
) -> Options:
    """Check the options against (..., Tq, keys) scores and translate them."""
    shape = (*query.shape[:-1], keys)
    if mask is not None:
        mask = _check_mask(mask, shape)
    if bias is not None:
        bias = _check_bias(bias, query.dtype, shape)
    batch = shape[0] if len(shape) > 2 else 1
    if key_lengths is not None:
        key_lengths = length_array(key_lengths, batch, keys)
    left, right = -1, -1
    if window is not None:
        left, right = _check_window(window)
    alignment = 0
    if causal is not None and causal is not False:
        alignment = _check_causal(causal, shape)
    seeds, below, keep = None, 0, 1.0
    if dropout:
        seeds, below, keep = _check_dropout(dropout, seed, batch, keys)
    elif dropout != 0:
        raise ArgumentError(describe("dropout", "a probability in [0, 1)", dropout, "pass 0.0 for none."))
    return Options(mask, bias, key_lengths, alignment, left, right, seeds, below, keep)


def check_output(out: object, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: tuple[Array, ...]) -> Array:
    """Return `out` if the context can be written to it, or raise."""
    hint = f"pass np.empty({shape}, {name_of(dtype)}), or leave it away."
    if not isinstance(out, np.ndarray):
        raise DTypeError(describe("out", "an array", type(out).__name__, hint))
    if out.dtype != dtype or not out.dtype.isnative:
        raise DTypeError(describe("out", f"{dtype}, the dtype of query", out.dtype, hint))
    if out.shape != shape:
        raise ShapeError(describe("out", f"shape {shape}", f"shape {out.shape}", hint))
    if not out.flags.writeable:
        raise ArgumentError(describe("out", "a writable array", "a read-only one", hint))
    for array in inputs:
        if np.may_share_memory(out, array):
            raise ArgumentError(describe("out", "memory of its own", "an array that overlaps an input", hint))
    return out


def check_size(what: str, shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return `shape` if an array of it can be indexed, or raise."""
    size = itemsize
    for n in shape:
        size *= n
    if size > _LARGEST:
        raise ShapeError(
            describe(what, "an array that 64-bit offsets can index", f"shape {shape}", "split the call into smaller ones.")
        )
    return shape


def length_array(key_lengths: object, batch: int, keys: int) -> Array:
    """Return key lengths as int64 (B,), each in [0, keys]."""
    lengths = _as_array("key_lengths", key_lengths)
    if lengths.dtype.kind not in "iu":
        raise DTypeError(
            describe("key_lengths", "integers", lengths.dtype, "pass key_lengths.astype(np.int64).")
        )
    if lengths.ndim == 0:
        lengths = lengths.reshape(1)
    if lengths.shape != (batch,):
        raise ShapeError(
            describe("key_lengths", f"shape ({batch},), one for each batch entry", f"shape {lengths.shape}",
                     "lengths belong to batch entries, not to heads or queries.")
        )
    if lengths.size and not 0 <= int(lengths.min()) <= int(lengths.max()) <= keys:
        raise ArgumentError(
            describe("key_lengths", f"values from 0 to {keys}, the number of keys",
                     f"values from {lengths.min()} to {lengths.max()}", "clip them to the number of keys.")
        )
    return np.ascontiguousarray(lengths, np.int64)


def score_arrays(score: Score, dtype: np.dtype[Any]) -> None:
    """Raise unless the parameters of the score have the dtype of query."""
    for name, array in score.parameters.items():
        if array.dtype.char != dtype.char:
            raise DTypeError(
                describe(name, f"{dtype}, the dtype of query", array.dtype, f"pass {name}.astype({name_of(dtype)}).")
            )


def name_of(dtype: np.dtype[Any]) -> str:
    """Return what a caller would write for a dtype."""
    return "np.float64" if dtype.char == "d" else "np.float32"


def _as_array(name: str, value: object) -> Array:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise DTypeError(describe(name, "an array", type(value).__name__, f"NumPy says: {error}.")) from None


def _check_broadcast(name: str, array: Array, shape: tuple[int, ...]) -> None:
    trailing = shape[len(shape) - array.ndim :] if array.ndim <= len(shape) else None
    if trailing is None or any(n not in (1, full) for n, full in zip(array.shape, trailing)):
        raise ShapeError(
            describe(name, f"a shape that broadcasts to (..., Tq, Tk) = {shape}", f"shape {array.shape}",
                     f"axes of {name} are matched from the last one; use size 1 where it does not vary.")
        )


def _check_mask(value: object, shape: tuple[int, ...]) -> Array:
    mask = _as_array("mask", value)
    if mask.dtype != np.bool_:
        hint = "pass mask.astype(bool) with True = may attend"
        if mask.dtype.kind == "f":
            hint += ", or bias= to add numbers to the scores"
        raise DTypeError(describe("mask", "a bool array", mask.dtype, f"{hint}."))
    _check_broadcast("mask", mask, shape)
    return mask


def _check_bias(value: object, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    bias = _as_array("bias", value)
    if bias.dtype.kind == "b":
        raise DTypeError(describe("bias", f"{dtype}, the dtype of query", bias.dtype, "pass a bool array as mask=."))
    if bias.dtype.char != dtype.char:
        raise DTypeError(
            describe("bias", f"{dtype}, the dtype of query", bias.dtype, f"pass bias.astype({name_of(dtype)}).")
        )
    _check_broadcast("bias", bias, shape)
    return core.unit(bias, False)


def _check_causal(causal: object, shape: tuple[int, ...]) -> int:
    hint = (
        '"top_left" lets query i read keys 0..i; "bottom_right" aligns the last query with the last key, as in decoding '
        "with earlier keys."
    )
    if causal is True:
        if shape[-2] != shape[-1]:
            raise ArgumentError(
                describe("causal", f'"top_left" or "bottom_right" for {shape[-2]} queries and {shape[-1]} keys', "True", hint)
            )
        return 1
    if not isinstance(causal, str) or causal not in _CAUSAL:
        raise ArgumentError(describe("causal", 'None, "top_left", "bottom_right", or True', repr(causal), hint))
    return _CAUSAL[causal]


def _check_window(window: object) -> tuple[int, int]:
    hint = "window=(left, right) counts keys on either side of the query's position; None is unbounded."
    if not isinstance(window, (tuple, list)) or len(window) != 2:
        raise ArgumentError(describe("window", "a pair (left, right)", repr(window), hint))
    sides = []
    for side in window:
        if side is None:
            sides.append(-1)
            continue
        try:
            number = operator.index(side)
        except TypeError:
            raise ArgumentError(describe("window", "a pair of integers or None", repr(window), hint)) from None
        if number < 0:
            raise ArgumentError(describe("window", "numbers from 0 up, or None", repr(window), hint))
        sides.append(min(number, _LARGEST // 2))
    return sides[0], sides[1]


def _check_dropout(dropout: float, seed: object, batch: int, keys: int) -> tuple[Array, int, float]:
    if not isinstance(dropout, (int, float, np.floating)) or not 0 <= dropout < 1:
        raise ArgumentError(describe("dropout", "a probability in [0, 1)", repr(dropout), "pass 0.0 for none."))
    if keys > 2**32:
        raise UnsupportedError(describe("dropout", f"at most {2**32} keys", keys, "attend without dropout."))
    hint = "an int gives every sample of the batch a mask of its own; an array (B,) fixes each sample's mask."
    if seed is None:
        raise ArgumentError(describe("seed", "an int, or one for each batch entry, with dropout", "None", hint))
    given = _as_array("seed", seed)
    if given.dtype.kind not in "iu":
        raise DTypeError(describe("seed", "integers", given.dtype, hint))
    if given.ndim == 0:
        base = core.mix64(int(given))
        seeds = np.array([core.mix64(base + b) for b in range(batch)], np.uint64)
    elif given.shape == (batch,):
        seeds = np.ascontiguousarray(given.astype(np.uint64))
    else:
        raise ShapeError(describe("seed", f"an int or shape ({batch},)", f"shape {given.shape}", hint))
    return seeds, int(float(dropout) * 2**32), 1 / (1 - float(dropout))
