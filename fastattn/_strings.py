"""Arguments to strings: what every public function accepts as a text, and as several."""

import os
import reprlib
from collections.abc import Iterator, Mapping

from fastattn.errors import ArgumentError, DTypeError, describe

__all__ = ["items", "path_name", "string", "string_pairs", "strings"]

_PAIRS = 'pairs like [("ein Hund", "a dog"), ...]: tuples of a source and a target'


def string(name: str, value: object, hint: str = "pass one text as a str.") -> str:
    """Return the argument called `name` as a str, or raise."""
    if type(value) is str:
        return value
    if isinstance(value, str):  # NumPy's, for one: what is kept or printed is plain
        return str.__str__(value)
    if isinstance(value, (bytes, bytearray)):
        hint = 'decode it: .decode("utf-8").'
    raise DTypeError(describe(name, "a str", type(value).__name__, hint))


def strings(name: str, value: object, hint: str = "pass a list of texts, each of them a str.") -> Iterator[str]:
    """Return the strings of the argument called `name` one after the other: any iterable of str, read once, or raise.

    One str is no iterable of texts, nor is a table, of which Python would give the names of columns. Lines of an open
    file come without their ends. Whether an item is a str is seen when it is read.
    """
    found = items(name, "an iterable of str", value, hint)
    of_file = hasattr(value, "readline")

    def checked() -> Iterator[str]:
        for place, item in enumerate(found):
            text = item if type(item) is str else string(f"{name}[{place}]", item, hint)
            yield text.rstrip("\r\n") if of_file else text

    return checked()


def path_name(name: str, value: object, hint: str = "pass a path as a str or a pathlib.Path.") -> str:
    """Return the argument called `name` as a path, or raise."""
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise DTypeError(describe(name, "a path", type(value).__name__, hint))
    found: str = os.fsdecode(value)
    if not found or "\0" in found:
        raise ArgumentError(describe(name, "a path", "a text with a NUL character" if found else "an empty text", hint))
    return found


def string_pairs(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Return the pairs of the argument called `name` one after the other: any iterable of tuples of two str, or raise.

    A pair is a tuple and nothing else: two lists, of sources and of targets, can be told from two pairs.
    """
    hint = f"pass {name}=[(source, target), ...], or of two lists {name}=zip(sources, targets)."
    for place, item in enumerate(items(name, _PAIRS, value, hint)):
        if not (isinstance(item, tuple) and len(item) == 2 and all(isinstance(side, str) for side in item)):
            raise DTypeError(describe(f"{name}[{place}]", "a tuple of two str", reprlib.repr(item), hint))
        yield string(name, item[0]), string(name, item[1])


def items(name: str, expected: str, value: object, hint: str) -> Iterator[object]:
    """Return an iterator over the argument called `name`, or raise if it has none, or is one text, or a table."""
    if not isinstance(value, (str, bytes, bytearray, Mapping)) and getattr(value, "ndim", 1) == 1:
        try:
            return iter(value)  # type: ignore[call-overload]
        except TypeError:
            pass
    got = f"one {type(value).__name__}" if isinstance(value, (str, bytes, bytearray)) else type(value).__name__
    raise DTypeError(describe(name, expected, got, hint))
