"""How exact products of float32 arrays are, for the process or for a block of one thread."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, ParamSpec, TypeVar

from fastattn._kernels import core
from fastattn._numbers import check_choice

__all__ = ["Precision", "float32_precision", "get_float32_precision", "set_float32_precision"]

Precision = Literal["highest", "batched", "high", "medium"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_PARTS: dict[Precision, int] = {"highest": 4, "batched": 3, "high": 2, "medium": 1}
_WORDS: dict[int, Precision] = {parts: word for word, parts in _PARTS.items()}


def set_float32_precision(precision: Precision) -> None:
    """Set how exact products of float32 matrices are, for the whole process.

    Parameters
    ----------
    precision : {"highest", "batched", "high", "medium"}
        ``"highest"``, as at import: chains of float32 multiply-adds. ``"batched"`` is as exact, and faster where rows
        are many, from 16 on, and slower for fewer. ``"high"`` may keep 16 bits of the factors, ``"medium"`` 8, as
        bfloat16 numbers have.

    Raises
    ------
    ArgumentError
        For another word.

    Notes
    -----
    Only a processor with a matrix unit, the level ``amx``, has anything to gain: it multiplies bfloat16 numbers, of 8
    bits, and takes six products for ``"batched"``, three for ``"high"``, one for ``"medium"``. Elsewhere all words are
    the same. Errors, with u = 2^-8 and A the sum of the terms' absolute values: 3 u^2 A for ``"high"``, 2 u A for
    ``"medium"``, beside that of float32 sums, which is all that ``"batched"`` has. Rows and columns with infinities,
    NaN, or numbers near the ends of the type are computed in float32 in every precision.

    It concerns products with matrices of 2^20 elements and more, and with their transposes, also those of inputs and,
    but in ``"batched"``, states with the matrices of all gates of recurrent layers; in ``"medium"`` and ``"batched"``
    of 2^18 and more; and gradients of matrices, of 2^14 and more. A row has the same bits in any batch in each of them.
    Attention itself is in float32, but that additive scores take estimates of reciprocals in ``"medium"``, and err by
    at most ``2^-13 sum |v|`` beside.

    The backward pass of a layer, a variant, a decoder, or of `attention_vjp`, has the precision of its forward pass.

    See Also
    --------
    float32_precision : for a block of one thread.

    Examples
    --------
    >>> import fastattn
    >>> fastattn.set_float32_precision("high")
    >>> fastattn.get_float32_precision()
    'high'
    >>> fastattn.set_float32_precision("highest")
    """
    core.set_parts(_PARTS[check_choice("precision", precision, tuple(_PARTS))], False)


def get_float32_precision() -> Precision:
    """Return how exact products of float32 matrices are in this thread: `set_float32_precision` has the words."""
    return _WORDS[core.parts(True) or core.parts(False)]


@contextmanager
def float32_precision(precision: Precision) -> Iterator[None]:
    """Give products of float32 matrices a precision in a block, for the thread that runs it.

    Parameters
    ----------
    precision : {"highest", "batched", "high", "medium"}
        See `set_float32_precision`.

    Examples
    --------
    >>> import fastattn
    >>> with fastattn.float32_precision("medium"):
    ...     fastattn.get_float32_precision()
    'medium'
    >>> fastattn.get_float32_precision()
    'highest'
    """
    parts = _PARTS[check_choice("precision", precision, tuple(_PARTS))]
    before = core.parts(True)
    core.set_parts(parts, True)
    try:
        yield
    finally:
        core.set_parts(before, True)


def captured(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return the function, to be run in the precision that is in force now: a backward pass in that of its forward."""
    precision = get_float32_precision()

    def run(*args: _P.args, **options: _P.kwargs) -> _R:
        if get_float32_precision() == precision:  # as it is nearly always, at a fifth of the time
            return function(*args, **options)
        with float32_precision(precision):
            return function(*args, **options)

    return run
