"""The exceptions that fastattn raises.

Every one is a `FastattnError`; most are also the built-in exception that a caller would expect. A message names the
argument, says what was expected and what was given, and ends with a line that says what to do::

    mask: expected a bool array, got float32.
    Hint: use mask.astype(bool), or pass additive values as bias=.

A failed allocation raises the built-in `MemoryError`.
"""

__all__ = [
    "ArgumentError",
    "DTypeError",
    "FastattnError",
    "PluginError",
    "ShapeError",
    "UnsupportedError",
    "describe",
]


class FastattnError(Exception):
    """Base class of all exceptions that fastattn defines."""


class ShapeError(FastattnError, ValueError):
    """An array has the wrong number of dimensions, or sizes that do not fit together."""


class DTypeError(FastattnError, TypeError):
    """An argument has an element type, or a Python type, that is not accepted there."""


class ArgumentError(FastattnError, ValueError):
    """An argument has a value that is not accepted."""


class UnsupportedError(FastattnError, NotImplementedError):
    """A combination of options that is meaningful but cannot be honoured; nothing is dropped in silence."""


class PluginError(FastattnError):
    """A plugin cannot be loaded, or what it provides is unusable or conflicts with another provider."""


def describe(argument: str, expected: str, got: object, hint: str) -> str:
    """Return the text of an error message.

    Parameters
    ----------
    argument : str
        Name of the argument as the caller wrote it.
    expected : str
        What would have been accepted, without a full stop.
    got : object
        What was given; its `str` is shown.
    hint : str
        One sentence that says what to do.

    Returns
    -------
    str

    Examples
    --------
    >>> from fastattn.errors import ShapeError, describe
    >>> raise ShapeError(describe("key", "last size 8", "last size 4", "project the keys to the width of the query."))
    Traceback (most recent call last):
    fastattn.errors.ShapeError: key: expected last size 8, got last size 4.
    Hint: project the keys to the width of the query.
    """
    return f"{argument}: expected {expected}, got {got}.\nHint: {hint}"
