"""Checks of the arguments of attention, and their translation into what the kernels take.

Everything that can be wrong with a call is found here, before anything is computed, and said in the words of the call;
`fastattn._kernels.core` compares once more what memory depends on.
"""

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fastattn._arrays import Array, as_array, cast, frozen, is_half, name_of, output_array
from fastattn._kernels import core
from fastattn._numbers import check_number, finite_number
from fastattn._relative import RelativeBias
from fastattn.attention.functions import as_mask, is_function, kernel_mask, kernel_modifier
from fastattn.errors import ArgumentError, DTypeError, ShapeError, UnsupportedError, describe
from fastattn.normalizers.base import Normalizer
from fastattn.scores.base import Score

if TYPE_CHECKING:
    from fastattn.jit import MaskFunction, ScoreModifier

__all__ = [
    "NO_OPTIONS",
    "allocate",
    "as_array",
    "check_array",
    "check_arrays",
    "check_mask",
    "check_memory",
    "check_options",
    "check_output",
    "check_scale",
    "check_sparse",
    "length_array",
    "score_arrays",
]

_NDARRAY: Final = np.ndarray
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_FARTHEST = 2**61  # keys on one side of a window; positions plus this fit 64 bits
_CAUSAL = {"top_left": 1, "bottom_right": 2}


NO_OPTIONS = core.Options()


def check_arrays(query: object, key: object, value: object) -> tuple[Array, Array, Array]:
    """Return query, key and value as arrays that the kernels can read, or raise."""
    # Nearly all calls pass these comparisons, at a third of the time of the checks one by one.
    if type(query) is _NDARRAY and type(key) is _NDARRAY and type(value) is _NDARRAY:
        dtype = query.dtype
        if dtype is key.dtype and dtype is value.dtype and (dtype is _FLOAT32 or dtype is _FLOAT64):
            q, k, v = query.shape, key.shape, value.shape
            if 2 <= len(q) <= 4 and len(k) == len(q) and k[:-2] == q[:-2] and v[:-1] == k[:-1]:
                return core.unit(query), core.unit(key), core.unit(value)
    return _check_arrays(check_array("query", query), key, value)


def check_memory(key: object, value: object) -> tuple[Array, Array]:
    """Return key and value as arrays that the kernels can read, or raise."""
    k, v = check_array("key", key), check_array("value", value)
    _same_dtype("value", v, "key", k)
    if not 2 <= k.ndim <= 4:
        hint = "add or merge leading axes by reshape."
        raise ShapeError(describe("key", "2, 3 or 4 axes: (..., Tk, Dk)", f"shape {k.shape}", hint))
    if v.ndim != k.ndim or v.shape[:-1] != k.shape[:-1]:
        wanted = f"shape ({', '.join(map(str, k.shape[:-1]))}, Dv), to fit key"
        raise ShapeError(describe("value", wanted, f"shape {v.shape}", f"key has shape {k.shape}."))
    return core.unit(k), core.unit(v)


def _check_arrays(q: Array, key: object, value: object) -> tuple[Array, Array, Array]:
    k, v = check_array("key", key), check_array("value", value)
    _same_dtype("key", k, "query", q)
    _same_dtype("value", v, "query", q)
    if not 2 <= q.ndim <= 4:
        hint = "add or merge leading axes by reshape."
        raise ShapeError(describe("query", "2, 3 or 4 axes: (..., Tq, Dk)", f"shape {q.shape}", hint))
    for name, array in (("key", k), ("value", v)):
        got = f"shape {array.shape}"
        if array.ndim != q.ndim:
            raise ShapeError(describe(name, f"{q.ndim} axes, as query has", got, f"query has shape {q.shape}."))
        if q.ndim > 2 and array.shape[0] != q.shape[0]:
            hint = f"repeat the smaller one, for instance by np.broadcast_to; query has shape {q.shape}."
            raise ShapeError(describe(name, f"batch size {q.shape[0]}, that of query", got, hint))
    if k.shape[-2] != v.shape[-2]:
        hint = f"key has shape {k.shape}."
        raise ShapeError(describe("value", f"{k.shape[-2]} positions, as key has", f"shape {v.shape}", hint))
    if q.ndim == 4:
        heads, key_heads = q.shape[1], k.shape[1]
        if v.shape[1] != key_heads:
            hint = f"key has shape {k.shape}."
            raise ShapeError(describe("value", f"{key_heads} heads, as key has", f"shape {v.shape}", hint))
        if key_heads != heads and (key_heads == 0 or heads % key_heads):
            expected = f"a number of heads that divides query's {heads}"
            hint = "for grouped queries the heads of query are a multiple of those of key and value."
            raise ShapeError(describe("key", expected, f"{key_heads} heads, shape {k.shape}", hint))
    return core.unit(q), core.unit(k), core.unit(v)


def check_sparse(
    normalizer: Normalizer,
    dtype: "np.dtype[Any]",
    query_shape: tuple[int, ...],
    keys: int,
    return_lse: bool,
    differentiate: bool = False,
) -> core.KernelNormalizer | None:
    """Return the normalizer as the kernels read it, None for softmax, or raise if it cannot be honoured."""
    sparse = normalizer.kernel_for(dtype, query_shape, keys, differentiate)
    if sparse is not None:
        if return_lse:
            hint = "rows of sparse weights have no log-sum-exp; leave return_lse out."
            raise UnsupportedError(describe("return_lse", f"False with {normalizer.name}", "True", hint))
        if keys >= 2**31:
            hint = "use softmax, or attend to parts of the memory."
            raise UnsupportedError(describe("normalizer", f"at most {2**31 - 1} keys", keys, hint))
    return sparse


def check_options(
    query: Array,
    keys: int,
    score_mod: "ScoreModifier | None",
    mask: object,
    key_lengths: object,
    causal: object,
    window: object,
    bias: object,
    dropout: object,
    seed: object,
    *,
    allow: "MaskFunction | None" = None,
    differentiate: bool = False,
) -> core.Options:
    """Check the options against (..., Tq, keys) scores and translate them."""
    if (
        mask is None
        and score_mod is None
        and allow is None
        and key_lengths is None
        and causal is None
        and window is None
        and bias is None
        and type(dropout) is float
        and dropout == 0
    ):
        return NO_OPTIONS
    shape = (*query.shape[:-1], keys)
    modifier = blocks = None
    if score_mod is not None:
        modifier = kernel_modifier(score_mod, query.dtype, shape, differentiate)
    if is_function(mask):
        found, mask = as_mask(mask), None
        allow = found if allow is None else allow & found
    if allow is not None:
        blocks = kernel_mask(allow, shape)
    if mask is not None:
        mask = check_mask(mask, shape)
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
    probability = check_number("dropout", dropout, "pass 0.0 for none.")
    if not 0 <= probability < 1:
        raise ArgumentError(describe("dropout", "a probability in [0, 1)", repr(dropout), "pass 0.0 for none."))
    if probability:
        seeds, below, keep = _check_seed(seed, batch, keys), int(probability * 2**32), 1 / (1 - probability)
    return core.Options(mask, bias, key_lengths, alignment, left, right, seeds, below, keep, modifier, blocks)


def check_output(
    out: object, shape: tuple[int, ...], dtype: np.dtype[Any], inputs: Iterable[Array], options: core.Options
) -> tuple[Array, Array]:
    """Return the array for the kernels to write and `out`, often the same, or raise if `out` cannot be used.

    `out` may overlap neither the inputs nor an array among the options.
    """
    every = (*inputs, options.mask, options.bias, options.key_lengths, options.seeds)
    out = output_array("out", out, shape, dtype, every)
    return (out if core.unit(out) is out else np.empty(shape, dtype)), out


def allocate(what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return an uninitialised array, or raise a ShapeError if no array can be so large."""
    try:
        return core.empty(shape, dtype)
    except ValueError:
        hint = "split the call into smaller ones."
        raise ShapeError(describe(what, "an array that 64-bit offsets can index", f"shape {shape}", hint)) from None


def length_array(key_lengths: object, batch: int, keys: int) -> Array:
    """Return key lengths as int64 (B,), each in [0, keys], that nobody can change."""
    lengths = as_array("key_lengths", key_lengths)
    if lengths.dtype.kind not in "iu":
        raise DTypeError(describe("key_lengths", "integers", lengths.dtype, cast("key_lengths", lengths, np.int64)))
    if lengths.ndim == 0:
        lengths = lengths.reshape(1)
    if lengths.shape != (batch,):
        hint = "lengths belong to batch entries, not to heads or queries."
        expected = f"shape ({batch},), one for each batch entry"
        raise ShapeError(describe("key_lengths", expected, f"shape {lengths.shape}", hint))
    if lengths.size and not 0 <= int(lengths.min()) <= int(lengths.max()) <= keys:
        expected = f"values from 0 to {keys}, the number of keys"
        got = f"values from {lengths.min()} to {lengths.max()}"
        raise ArgumentError(describe("key_lengths", expected, got, "clip them to the number of keys."))
    return frozen(lengths.astype(np.int64, copy=False))


def check_scale(scale: object, dtype: np.dtype[Any]) -> float:
    """Return the factor of the raw score, or raise."""
    return finite_number("scale", scale, dtype, "pass 1.0 for none.")


def score_arrays(score: Score, dtype: np.dtype[Any], half: np.dtype[Any] | None = None) -> None:
    """Raise unless the parameters of the score are arrays as it was made with, and, but for functions of users, of the
    dtype of query, or, where that is a half type, of float32."""
    parameters: dict[str, Any] = score.parameters  # of anything, once they are assigned to
    for name, array in parameters.items():
        if not isinstance(array, np.ndarray) or array.ndim != score.axes.get(name, array.ndim):
            got = f"shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            hint = "make a new score for other parameters."
            raise ShapeError(describe(name, f"an array of {score.axes.get(name, 'some')} axes", got, hint))
        if score.one_dtype and array.dtype.char != dtype.char:
            expected = f"{dtype}, the dtype of query" if half is None else f"{dtype} for a query of {half}"
            raise DTypeError(describe(name, expected, array.dtype, cast(name, array, dtype)))


def check_mask(value: object, shape: tuple[int, ...]) -> Array:
    """Return a bool mask that broadcasts to `shape`, or raise."""
    mask = as_array("mask", value)
    if mask.dtype.char != "?":
        hint = cast("mask", mask, np.bool_)
        if mask.dtype.kind == "f":
            hint = "pass np.asarray(mask, bool) with True = may attend, or bias= to add numbers to the scores."
        raise DTypeError(describe("mask", "a bool array", mask.dtype, hint))
    _check_broadcast("mask", mask, shape)
    return mask


def check_array(name: str, value: object) -> Array:
    """Return an argument as an array of a type that attention takes, or raise."""
    array = as_array(name, value)
    if array.dtype.char not in "fd" and not is_half(array.dtype):
        expected = "a float32, float64, float16 or bfloat16 array"
        raise DTypeError(describe(name, expected, array.dtype, cast(name, array, np.float32)))
    return array


def _same_dtype(name: str, array: Array, other_name: str, other: Array) -> None:
    if array.dtype.char != other.dtype.char:
        expected = f"{other.dtype}, the dtype of {other_name}"
        raise DTypeError(describe(name, expected, array.dtype, cast(name, array, other.dtype)))


def _check_broadcast(name: str, array: Array, shape: tuple[int, ...]) -> None:
    given = array.shape
    if len(given) <= len(shape):
        for n, full in zip(reversed(given), reversed(shape)):
            if n != full and n != 1:
                break
        else:
            return
    expected = f"a shape that broadcasts to (..., Tq, Tk) = {shape}"
    hint = f"axes of {name} are matched from the last one; use size 1 where it does not vary."
    raise ShapeError(describe(name, expected, f"shape {given}", hint))


def _check_bias(value: object, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    bias = value.array(*shape[-2:]) if isinstance(value, RelativeBias) else as_array("bias", value)
    if bias.dtype.char != dtype.char:
        hint = "pass a bool array as mask=." if bias.dtype == np.bool_ else cast("bias", bias, dtype)
        if isinstance(value, RelativeBias):
            hint = f"make it of values of {name_of(dtype)}."
        raise DTypeError(describe("bias", f"{dtype}, the dtype of query", bias.dtype, hint))
    _check_broadcast("bias", bias, shape)
    return core.unit(bias, False)


def _check_causal(causal: object, shape: tuple[int, ...]) -> int:
    hint = (
        '"top_left" lets query i read keys 0..i; "bottom_right" aligns the last query with the last key, as in '
        "decoding with earlier keys."
    )
    if causal is True:
        if shape[-2] != shape[-1]:
            expected = f'"top_left" or "bottom_right" for {shape[-2]} queries and {shape[-1]} keys'
            raise ArgumentError(describe("causal", expected, "True", hint))
        return _CAUSAL["top_left"]
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
        sides.append(min(number, _FARTHEST))
    return sides[0], sides[1]


def _check_seed(seed: object, batch: int, keys: int) -> Array:
    """Return the seeds of the batch entries, uint64 (B,)."""
    if keys > 2**32:
        raise UnsupportedError(describe("dropout", f"at most {2**32} keys", keys, "attend without dropout."))
    hint = "an int gives every sample of the batch a mask of its own; an array (B,) fixes each sample's mask."
    if seed is None:
        raise ArgumentError(describe("seed", "an int, or one for each batch entry, with dropout", "None", hint))
    given = as_array("seed", seed)
    if given.dtype.kind not in "iu":
        raise DTypeError(describe("seed", "integers", given.dtype, hint))
    if given.ndim == 0:
        base = core.mix64(int(given))
        return np.array([core.mix64(base + b) for b in range(batch)], np.uint64)
    if given.shape != (batch,):
        raise ShapeError(describe("seed", f"an int or shape ({batch},)", f"shape {given.shape}", hint))
    return frozen(given.astype(np.uint64, copy=False))
