"""Checks of what is given to variants."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastattn._arrays import Array, as_array, frozen
from fastattn._numbers import check_choice, check_size
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe
from fastattn.normalizers.base import Normalizer
from fastattn.variants.protocol.prepared import Prepared, check_whole

__all__ = [
    "NormalizerLike",
    "check_choice",
    "check_head_width",
    "check_kind",
    "check_lengths",
    "check_seeds",
    "check_size",
    "check_summed",
    "check_whole",
]

# A name, a mapping of a name and settings, or an object.
NormalizerLike = str | Mapping[str, Any] | Normalizer


def check_kind(name: str, value: object, kind: type, hint: str) -> None:
    """Raise unless an argument is an object of a class."""
    if not isinstance(value, kind):
        raise DTypeError(describe(name, f"a {kind.__name__}", type(value).__name__, hint))


def check_lengths(
    lengths: object, batch: int, most: int, name: str = "lengths", counted: str = "positions of the memory"
) -> Array:
    """Return one length a sample as int64, or raise."""
    array = as_array(name, lengths)
    if array.dtype.kind not in "iu" or array.shape != (batch,):
        error = ShapeError if array.dtype.kind in "iu" else DTypeError
        got = f"{array.dtype} of shape {array.shape}"
        raise error(describe(name, f"{batch} integers", got, "pass one length a sample."))
    if array.size and not 0 <= int(array.min()) <= int(array.max()) <= most:
        got = f"{array.min()} to {array.max()}"
        raise ArgumentError(describe(name, f"values from 0 to {most}", got, f"they count {counted}."))
    return array.astype(np.int64)


def check_seeds(seeds: object, batch: int) -> Array:
    """Return one seed a sample as uint64, or raise."""
    array = as_array("seeds", seeds)
    if array.dtype.kind not in "iu" or array.shape != (batch,):
        error = ShapeError if array.dtype.kind in "iu" else DTypeError
        got = f"{array.dtype} of shape {array.shape}"
        raise error(describe("seeds", f"{batch} integers", got, "pass one seed a sample."))
    return frozen(array.astype(np.uint64))


def check_head_width(query_width: int, heads: int, head_width: int | None) -> int:
    """Return the width of a head, by default its share of the query's, or raise."""
    if head_width is not None:
        return check_size("head_width", head_width)
    if query_width % heads:
        hint = "pass a divisor, or head_width=."
        raise ArgumentError(describe("heads", f"a divisor of query_width {query_width}", heads, hint))
    return query_width // heads


def check_summed(prepared: Prepared, width: int) -> None:
    """Raise unless the memory, or its values, have the width that their projection takes."""
    if prepared.summed.shape[-1] != width:
        argument = "memory" if prepared.values is None else "values"
        hint = "pass values= of the width that the variant was made for with value_width=."
        raise ShapeError(describe(argument, f"width {width}", f"shape {prepared.summed.shape}", hint))
