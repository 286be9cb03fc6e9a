"""Making what a record stands for: its options are checked before its factory is called."""

import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from fastattn.errors import ArgumentError, DTypeError, PluginError, describe, did_you_mean
from fastattn.plugin.records import Record

__all__ = ["accepts", "check", "make", "needed", "options"]

_NONE: Mapping[str, Any] = {}


def options(record: Record) -> Mapping[str, inspect.Parameter]:
    """Return the options of a factory, with their defaults; those of a built-in type are not known."""
    try:
        return inspect.signature(record.load()).parameters
    except ValueError:
        return {"options": inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)}


def accepts(record: Record, option: str) -> bool:
    """Whether a factory takes an option of this name."""
    known = options(record)
    return option in known or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())


def needed(record: Record) -> list[str]:
    """Return the options that have no default."""
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, option in options(record).items() if option.kind in plain and option.default is option.empty]


def check(record: Record, given: Iterable[str], decided: Collection[str] = (), path: str = "") -> None:
    """Raise an ArgumentError unless a factory has options of these names, none of which is `decided` by others."""
    for name in given:
        if name in decided or not accepts(record, name):
            known = [option for option in options(record) if option not in decided]
            expected = f"an option of {record.name!r}: {', '.join(known) or 'none'}"
            hint = "leave it out: it is decided elsewhere." if name in decided else did_you_mean(name, known)
            raise ArgumentError(describe(path + name, expected, repr(name), hint))


def make(
    record: Record, given: Mapping[str, Any], kind: type, decided: Mapping[str, Any] = _NONE, path: str = ""
) -> Any:
    """Return what the factory makes, which must be a `kind`.

    Parameters
    ----------
    record : Record
    given : mapping
        The user's options.
    kind : type
    decided : mapping
        Options that are not the user's to give; a factory gets those that it takes.
    path : str
        What precedes the names of the user's options in messages.

    Raises
    ------
    ArgumentError, DTypeError
        If there is no such option, or one is missing, or the generator is none.
    PluginError
        If the factory cannot be imported, or made something else.
    """
    check(record, given, decided, path)
    given = {**given, **{name: value for name, value in decided.items() if accepts(record, name)}}
    for name in needed(record):
        if name not in given:
            hint = "pass rng=np.random.default_rng(0)." if name == "rng" else f"pass {name}=."
            raise ArgumentError(describe(name, f"a value, which {record.name!r} needs", "nothing", hint))
    rng = given.get("rng")
    if (rng is not None or "rng" in needed(record)) and not isinstance(rng, np.random.Generator):
        hint = "pass rng=np.random.default_rng(0)."
        raise DTypeError(describe("rng", "a numpy.random.Generator", type(rng).__name__, hint))
    made = record.load()(**given)
    if not isinstance(made, kind):
        hint = f"its factory must return a {kind.__module__}.{kind.__name__}; tell its author."
        raise PluginError(describe(record.name, f"a {kind.__name__}", type(made).__name__, hint))
    return made
