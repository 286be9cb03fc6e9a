"""Making what a record stands for: its options are checked before its factory is called."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from fastattn.errors import ArgumentError, PluginError, describe
from fastattn.plugin.records import Record

__all__ = ["make", "needed", "options"]


def options(record: Record) -> Mapping[str, inspect.Parameter]:
    """Return the options of a factory, with their defaults."""
    return inspect.signature(record.load()).parameters


def needed(record: Record) -> list[str]:
    """Return the options that have no default."""
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, option in options(record).items() if option.kind in plain and option.default is option.empty]


def make(record: Record, given: Mapping[str, Any], kind: type) -> Any:
    """Return what the factory makes, which must be a `kind`.

    Raises
    ------
    ArgumentError
        If there is no such option, or one is missing.
    PluginError
        If the factory cannot be imported, or made something else.
    """
    known = options(record)
    if not any(option.kind is inspect.Parameter.VAR_KEYWORD for option in known.values()):
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else "see its docstring."
                expected = f"an option of {record.name!r}: {', '.join(known) or 'none'}"
                raise ArgumentError(describe(name, expected, repr(name), hint))
    for name in needed(record):
        if name not in given:
            raise ArgumentError(describe(name, f"a value, which {record.name!r} needs", "nothing", f"pass {name}=."))
    made = record.load()(**given)
    if not isinstance(made, kind):
        hint = f"its factory must return a {kind.__module__}.{kind.__name__}; tell its author."
        raise PluginError(describe(record.name, f"a {kind.__name__}", type(made).__name__, hint))
    return made
