"""Does a sample have the same bits alone and among others? Asked of every contestant of a scoreboard."""

from dataclasses import replace

import numpy as np

from ..case import Arrays, Case
from ..peers import Library


def alone(case: Case, data: Arrays) -> tuple[Case, Arrays, int] | None:
    """The case of its last sample with the sample's inputs, and the axis of samples; None where there is none.

    One sample of attention has many queries, each of which is computed by itself: then it is the last query alone.
    """
    if not case.samples:
        return None
    first = "B" if "B" in case.sizes else "M"
    names, axis = case.samples, 0
    if case.sizes[first] == 1:
        if case.sizes.get("Tq", 1) == 1 or case.options.get("causal"):
            return None
        first, names, axis = "Tq", ("query", "context"), -2
    names = (*names, *(f"d_{name}" for name in names))
    cut = {name: _last(array, axis) if name in names else array for name, array in data.items()}
    return replace(case, sizes={**case.sizes, first: 1}, samples=names), cut, axis


def same_bits_alone(library: Library, case: Case, spelling: str, data: Arrays, whole: Arrays) -> bool | None:
    """Whether the last sample's results are those in the whole, bit by bit; None where there is no sample to ask of."""
    cut = alone(case, data)
    if cut is None:
        return None
    single, arrays, axis = cut
    try:
        part = library.collect(single, library.prepare(single, arrays)[spelling]())
    except Exception:  # what cannot be computed alone is not the same
        return False
    names = [name for name in whole if name in single.samples]
    pairs = [(_last(whole[name], axis), np.ascontiguousarray(part[name])) for name in names]
    return all(np.array_equal(x.view(np.uint32), y.view(np.uint32)) for x, y in pairs) if pairs else None


def _last(array: np.ndarray, axis: int) -> np.ndarray:
    return np.ascontiguousarray(array[-1:] if axis == 0 else array[..., -1:, :])
