"""Checks that both pictures share: weights that are weights, and one label for each row and column."""

import numpy as np

from fastattn._arrays import Array, float_array
from fastattn._numbers import check_flag
from fastattn.errors import ArgumentError, ShapeError, describe

__all__ = ["check_weights", "largest_colour"]

# Weights may come from half precision: its rounding, 2^-11 relative, moves the sum of a row by at most 5e-4.
TOLERANCE = 1e-3


def check_weights(name: str, weights: object, targets: int, sources: int, axes: str, normalized: bool) -> Array:
    """Return the weights as an array, or raise.

    Parameters
    ----------
    name : str
        Of the argument, for messages.
    weights : array, shape (..., Tq, Tk)
    targets, sources : int
        Numbers of labels: Tq and Tk.
    axes : str
        Names of the axes that may stand before Tq, for example "LH": any number of the last ones.
    normalized : bool
        Whether no row may sum to more than 1; to less it may, as of local and monotonic attention.
    """
    array = float_array(name, weights)
    shape = array.shape
    if not 2 <= array.ndim <= 2 + len(axes) or shape[-2:] != (targets, sources):
        leading = ["", *(", ".join(axes[-n:]) + ", " for n in range(1, len(axes) + 1))]
        forms = " or ".join(f"({form}{targets}, {sources})" for form in leading)
        expected = f"shape {forms}: one row per target token, one column per source token"
        raise ShapeError(describe(name, expected, f"shape {shape}", _shape_hint(shape, targets, sources, len(axes))))
    if not all(shape[:-2]):
        raise ShapeError(describe(name, "at least one head", f"shape {shape}", "pass the heads that are to be shown."))
    bad = ~((array >= -TOLERANCE) & (array <= 1 + TOLERANCE))  # NaN is neither
    if bad.any():
        where = np.unravel_index(int(bad.argmax()), shape)
        got = f"{array[where]} at {tuple(map(int, where))}"
        hint = "pass weights, that is scores after the softmax, without the rows of padding."
        raise ArgumentError(describe(name, "numbers from 0 to 1", got, hint))
    if check_flag("normalized", normalized) and array.size:
        total = array.sum(axis=-1, dtype=np.float64)
        off = total > 1 + TOLERANCE
        if off.any():
            where = np.unravel_index(int(off.argmax()), total.shape)
            got = f"a sum of {total[where]:.4g} in row {tuple(map(int, where))}"
            hint = "pass normalized=False if these weights may sum to more; are targets and sources exchanged?"
            raise ArgumentError(describe(name, "rows that sum to 1, or to less", got, hint))
    return array


def _shape_hint(shape: tuple[int, ...], targets: int, sources: int, leading: int) -> str:
    if len(shape) > 2 + leading and shape[-2:] == (targets, sources):
        return "choose one entry of the leading axes, for example weights[0]."
    if shape[-2:] == (sources, targets):
        return "rows are target tokens: pass weights.swapaxes(-1, -2)."
    if len(shape) >= 2 and shape[-2] >= targets and shape[-1] >= sources:
        return f"cut padding off, weights[..., :{targets}, :{sources}], or label it (is there an end of sentence?)."
    return "pass as many tokens as the weights have rows and columns."


def largest_colour(largest: float) -> float:
    """Return the weight of the last colour: 1, or the largest weight of a map where even that is small."""
    return float(largest) if 0 < largest < 0.5 else 1.0
