"""Tables of a configuration file as frozen dataclasses: keys, types and ranges are checked, faults named in one line.

A dataclass is its own schema: annotations say the types, `setting` the ranges. Types are bool, int, float, str, tuples
of them, and mappings, whose keys the class checks; an int is accepted for a float, nothing else is converted.
"""

import dataclasses
import math
import operator
import types
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from fastattn.errors import ConfigError, FastattnError, describe_file, did_you_mean

__all__ = ["Section", "as_table", "check", "from_table", "setting", "suggest", "to_table"]

T = TypeVar("T")

_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a string in quotes"}


def setting(
    default: Any = dataclasses.MISSING,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Collection[str] = (),
) -> Any:
    """Return a dataclass field with a range.

    Parameters
    ----------
    default : object
        Without one, the key must be given.
    least, most, above, below : float, optional
        Bounds of a number, or of every number of a tuple: the first two belong to the range, the others do not.
    choices : collection of str
        What a string may be.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from fastattn.seq2seq.schema import from_table, setting
    >>> @dataclass(frozen=True)
    ... class Encoder:
    ...     hidden: int = setting(256, least=1)
    ...     cell: str = setting("gru", choices=("gru", "lstm"))
    >>> from_table(Encoder, {"hidden": 8}, "model")
    Encoder(hidden=8, cell='gru')
    >>> from_table(Encoder, {"hiden": 8}, "model")
    Traceback (most recent call last):
    fastattn.errors.ConfigError: model.hiden: unknown key. Hint: did you mean 'hidden'?
    """
    metadata = {"least": least, "most": most, "above": above, "below": below, "choices": tuple(choices)}
    return dataclasses.field(default=default, metadata={"setting": metadata})


class Section:
    """Base class of sections whose values are checked however they are made; name it by ``section="data"``."""

    _section = ""

    def __init_subclass__(cls, section: str) -> None:
        cls._section = section

    def __post_init__(self) -> None:
        check(self, self._section)


def from_table(cls: type[T], table: object, path: str) -> T:
    """Return the dataclass that a table describes.

    Parameters
    ----------
    cls : type
        A dataclass.
    table : mapping
        From TOML or JSON.
    path : str
        Of the table in the file, for messages.

    Raises
    ------
    ConfigError
        If a key is unknown or missing, a value has the wrong type or is out of range, or the class refuses it.
    """
    table = as_table(table, path)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise ConfigError(describe_file(f"{path}.{key}", "unknown key", suggest(str(key), fields)))
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise ConfigError(describe_file(f"{path}.{name}", "missing", f"add it to the section [{path}]."))
    hints = get_type_hints(cls)
    values = {key: _converted(value, hints[key]) for key, value in table.items()}
    for key, value in values.items():
        _check_value(value, hints[key], fields[key], f"{path}.{key}")
    try:
        return cls(**values)
    except ConfigError:
        raise
    except FastattnError as error:
        raise ConfigError(f"{path}: " + " ".join(str(error).splitlines())) from None


def as_table(table: object, path: str) -> Mapping[str, Any]:
    """Return a table as it is; anything else is a ConfigError."""
    if not isinstance(table, Mapping):
        raise ConfigError(describe_file(path, f"expected a table, got {table!r}", f"write a section [{path}]."))
    return table


def to_table(instance: Any) -> dict[str, Any]:
    """Return a dataclass as a dict for TOML or JSON: tuples as lists, fields that are None left out."""
    table = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if dataclasses.is_dataclass(value):
            value = to_table(value)
        if value is not None:
            table[field.name] = list(value) if isinstance(value, tuple) else value
    return table


def check(instance: Any, path: str) -> None:
    """Raise a ConfigError unless every field of a dataclass has its type and is in its range."""
    hints = get_type_hints(type(instance))
    for field in dataclasses.fields(instance):
        _check_value(getattr(instance, field.name), hints[field.name], field, f"{path}.{field.name}")


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint for a name that is not known: the closest one, or all."""
    known = list(known)
    return did_you_mean(name, known, f"known are {', '.join(known)}.")


def _converted(value: Any, hint: Any) -> Any:
    """Make an int a float, and a list a tuple, where the hint says so."""
    hint = _inner(hint)
    if hint is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if get_origin(hint) is tuple and isinstance(value, list):
        kinds = get_args(hint)
        return tuple(_converted(item, kinds[0]) for item in value)
    return value


def _inner(hint: Any) -> Any:
    """Return X for ``X | None``, and other hints as they are."""
    if isinstance(hint, types.UnionType):
        return next(kind for kind in get_args(hint) if kind is not type(None))
    return hint


def _is(value: Any, kind: Any) -> bool:
    """Whether a value has a type: True is no number, an int is a float as well."""
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _check_value(value: Any, hint: Any, field: "dataclasses.Field[Any]", path: str) -> None:
    if value is None and hint is not _inner(hint):
        return
    hint = _inner(hint)
    if get_origin(hint) is Mapping:
        as_table(value, path)
        return
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        count = None if kinds[-1] is Ellipsis else len(kinds)
        if not isinstance(value, tuple) or (count is not None and len(value) != count):
            what = f"a list of {count} values" if count is not None else "a list"
            raise ConfigError(describe_file(path, f"expected {what}, got {value!r}", _example(field)))
        for item in value:
            _check_value(item, kinds[0], field, path)
        return
    if hint in _NAMES and not _is(value, hint):
        raise ConfigError(describe_file(path, f"expected {_NAMES[hint]}, got {value!r}", _example(field)))
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ConfigError(describe_file(path, "expected a number of at most 64 bits", _example(field)))
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(describe_file(path, f"expected a finite number, got {value}", _example(field)))
    limits: Mapping[str, Any] = field.metadata.get("setting", {})
    if limits.get("choices") and value not in limits["choices"]:
        hint = suggest(value, limits["choices"])
        raise ConfigError(describe_file(path, f"expected one of {', '.join(limits['choices'])}, got {value!r}", hint))
    for key, words, wrong in (
        ("least", "at least", operator.lt),
        ("most", "at most", operator.gt),
        ("above", "a number above", operator.le),
        ("below", "a number below", operator.ge),
    ):
        bound = limits.get(key)
        if bound is not None and wrong(value, bound):
            raise ConfigError(describe_file(path, f"expected {words} {bound}, got {value}", _example(field)))


def _example(field: "dataclasses.Field[Any]") -> str:
    default = field.default
    if default is dataclasses.MISSING or default is None or default == "":
        return "see the documentation of the configuration."
    shown = str(default).lower() if isinstance(default, bool) else default
    shown = list(default) if isinstance(default, tuple) else shown
    return f"the default is {shown!r}." if isinstance(shown, str) and default is shown else f"the default is {shown}."
