"""Which keys a query may see: a sliding window, and attention sinks."""

import numpy as np

from fastattn._arrays import Array
from fastattn.errors import ArgumentError, DTypeError, describe

__all__ = ["check_window", "visible"]

Window = tuple[int | None, int | None]


def check_window(window: object, sinks: object) -> tuple[Window | None, int]:
    """Return a window (left, right) or None, and the number of sinks, or raise.

    Examples
    --------
    >>> from fastattn.positions import check_window
    >>> check_window((8, None), 4)
    ((8, None), 4)
    """
    hint = "window=(left, right) counts keys before and after the query's position; None is without limit."
    if isinstance(sinks, (bool, np.bool_)) or not isinstance(sinks, (int, np.integer)):
        raise DTypeError(describe("sinks", "an integer", type(sinks).__name__, "pass sinks=4, say."))
    if sinks < 0:
        raise ArgumentError(describe("sinks", "at least 0", sinks, "pass sinks=4, say."))
    if window is None:
        if sinks:
            hint = "without a window all keys are visible; leave sinks out."
            raise ArgumentError(describe("sinks", "0 without a window", sinks, hint))
        return None, 0
    if not isinstance(window, (tuple, list)) or len(window) != 2:
        raise ArgumentError(describe("window", "a pair (left, right)", repr(window), hint))
    for side in window:
        if side is not None and (isinstance(side, bool) or not isinstance(side, (int, np.integer)) or side < 0):
            raise ArgumentError(describe("window", "numbers from 0 up, or None", repr(window), hint))
    return (window[0], window[1]), int(sinks)


def visible(first: int, queries: int, keys: int, window: Window, sinks: int = 0) -> Array:
    """Return whether query i may see key j: ``j < sinks`` or ``-left <= j - i <= right``, bool (Tq, Tk).

    Parameters
    ----------
    first : int
        Position of the first query.
    queries, keys : int
    window : (left, right)
    sinks : int
        How many keys of the beginning are always seen (Xiao et al. 2023, section 3.2; 4 in the paper).

    References
    ----------
    Beltagy et al., "Longformer", 2020, arXiv:2004.05150, section 3.1 (windows). Xiao et al., "Efficient Streaming
    Language Models with Attention Sinks", ICLR 2024, arXiv:2309.17453.

    Examples
    --------
    >>> from fastattn.positions import visible
    >>> visible(0, 5, 5, (1, 0), sinks=1).astype(int)
    array([[1, 0, 0, 0, 0],
           [1, 1, 0, 0, 0],
           [1, 1, 1, 0, 0],
           [1, 0, 1, 1, 0],
           [1, 0, 0, 1, 1]])
    """
    at = np.arange(keys)
    apart = at - np.arange(first, first + queries)[:, None]
    left, right = window
    near = np.ones(apart.shape, bool)
    if left is not None:
        near &= apart >= -left
    if right is not None:
        near &= apart <= right
    return near | (at < sinks)
