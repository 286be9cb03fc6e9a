"""Tables of a configuration file as frozen dataclasses: keys, types and ranges are checked, faults named in one line.

A dataclass is its own schema: annotations say the types, `setting` the ranges. Types are bool, int, float, str, tuples
of them or of ``int | str``, and mappings of what TOML can hold, whose keys the class checks. A value is checked in the
same way whether it comes from a file or from Python. What means the same is converted: an int for a float, a list for a
tuple, NumPy's numbers, a path for a str; nothing else is.
"""

import dataclasses
import math
import operator
import os
import types
from collections.abc import Collection, Iterable, Mapping
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from fastattn import _reprs
from fastattn.errors import (
    ArgumentError,
    ConfigError,
    DTypeError,
    FastattnError,
    describe,
    describe_file,
    did_you_mean,
    within,
)
from fastattn.seq2seq.aliases import ALIASES

__all__ = [
    "Section",
    "argument",
    "as_table",
    "check",
    "check_keys",
    "from_table",
    "home_of",
    "other_name",
    "setting",
    "share",
    "shown",
    "size",
    "suggest",
    "to_table",
]

T = TypeVar("T")

_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "a string in quotes"}

_WIDEST = 1_000_000  # beyond it a matrix of two such widths has more elements than any machine holds


def setting(
    default: Any = dataclasses.MISSING,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """Return a dataclass field with a range. What a string may be is said by its type, `Literal`.

    Parameters
    ----------
    default : object
        Without one, the key must be given.
    least, most, above, below : float, optional
        Bounds of a number, or of every number of a tuple: the first two belong to the range, the others do not.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from typing import Literal
    >>> from fastattn.seq2seq.schema import from_table, setting
    >>> @dataclass(frozen=True)
    ... class Encoder:
    ...     hidden: int = setting(256, least=1)
    ...     cell: Literal["gru", "lstm"] = "gru"
    >>> from_table(Encoder, {"hidden": 8}, "model")
    Encoder(hidden=8, cell='gru')
    >>> from_table(Encoder, {"hiden": 8}, "model")
    Traceback (most recent call last):
    fastattn.errors.ConfigError: model.hiden: unknown key. Hint: did you mean 'hidden'?
    """
    metadata = {"least": least, "most": most, "above": above, "below": below}
    return dataclasses.field(default=default, metadata={"setting": metadata})


def size(default: int, most: int = _WIDEST) -> Any:
    """Return the field of a width or a number of things."""
    return setting(default, least=1, most=most)


def share(default: float | None) -> Any:
    """Return the field of a share in [0, 1)."""
    return setting(default, least=0, below=1)


class Section:
    """Base class of sections, whose values are checked however they are made; name it by ``section="data"``.

    Examples
    --------
    >>> from fastattn.seq2seq import TrainingConfig
    >>> TrainingConfig(learning_rate=0.01)
    Traceback (most recent call last):
    fastattn.errors.ConfigError: training.learning_rate: unknown key. Hint: did you mean 'rate'?
    """

    _section: ClassVar[str] = ""

    def __init_subclass__(cls, section: str) -> None:
        cls._section = section
        cls.__repr__ = _reprs.settings  # type: ignore[method-assign]
        _SECTIONS.append(cls)

    def __new__(cls, *args: Any, **given: Any) -> Self:
        """Refuse names of no field, before the dataclass would."""
        check_keys(cls, given, cls._section)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        check(self, self._section)


_SECTIONS: list[type[Section]] = []


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
    check_keys(cls, table, path)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in table:
            raise ConfigError(describe_file(f"{path}.{name}", "missing", f"add it to the section [{path}]."))
    hints = _hints(cls)
    values = {key: _checked(value, hints[key], fields[key], f"{path}.{key}") for key, value in table.items()}
    try:
        return cls(**values)
    except ConfigError:
        raise
    except FastattnError as error:
        raise ConfigError(within(path, error)) from None


def as_table(table: object, path: str) -> Mapping[str, Any]:
    """Return a table as it is; anything else is a ConfigError."""
    if not isinstance(table, Mapping):
        hint = f"write a section [{path}], or in Python pass a dict."
        raise ConfigError(describe_file(path, f"expected a table, got {shown(table)}", hint))
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
    """Raise a ConfigError unless every field of a frozen dataclass has its type and is in its range.

    What means the same as a value of the type becomes one.
    """
    hints = _hints(type(instance))
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        checked = _checked(value, hints[field.name], field, f"{path}.{field.name}")
        if checked is not value:
            object.__setattr__(instance, field.name, checked)


def check_keys(cls: type, keys: Iterable[object], path: str) -> None:
    """Raise a ConfigError if a key is no field of a dataclass: with the field that it may stand for."""
    own = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in keys:
        if key not in own:
            name = str(key)
            home = "" if other_name(name, own) else home_of(name, path)
            hint = home_of(name, path, exact=True) or home or suggest(name, own)
            raise ConfigError(describe_file(f"{path}.{name}", "unknown key", hint))


def home_of(name: str, apart: str = "", exact: bool = False) -> str:
    """Return a hint at the section, another one than `apart`, that has a key of that name, "" if none has.

    If not `exact`, a name of other libraries will do.
    """
    for cls in _SECTIONS:
        keys = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        if cls._section != apart and name in keys:
            return f"it belongs to [{cls._section}]."
    for cls in () if exact else _SECTIONS:
        keys = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        if cls._section != apart and (key := other_name(name, keys)):
            return f"did you mean {key!r}, which belongs to [{cls._section}]?"
    return ""


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a hint for a name that is not known: what other libraries call so, the closest one, or all."""
    known = list(known)
    alias = other_name(name, known)
    return f"did you mean {alias!r}?" if alias else did_you_mean(name, known, f"known are {', '.join(known)}.")


def shown(value: object) -> str:
    """Return a value as a message shows it: not longer than a line."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a large {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def other_name(name: str, known: Collection[str]) -> str | None:
    """Return what is known here by a name that other libraries have for it."""
    plain = name.lower().replace("-", "_")
    return next((own for own in (plain, *ALIASES.get(plain, ())) if own in known), None)


class _Fault(Exception):
    """What is wrong with a value: what was expected, what was given, "" if that cannot be shown, and what to do."""

    def __init__(self, expected: str, got: str, hint: str, path: str = "", error: type[FastattnError] = ArgumentError):
        super().__init__(expected, got, hint, path)
        self.expected, self.got, self.hint, self.path, self.error = expected, got, hint, path, error


def argument(section: type, field: str, value: Any, name: str = "") -> Any:
    """Return what is given in place of a setting, checked as that is, or raise an error of the argument.

    Parameters
    ----------
    section : type
        A dataclass.
    field : str
        The setting.
    value : object
    name : str, optional
        Of the argument, where it is not that of the setting.
    """
    [own] = [item for item in dataclasses.fields(section) if item.name == field]
    try:
        return _value(value, _hints(section)[field], own)
    except _Fault as fault:
        got = fault.got or "a larger one"
        raise fault.error(describe(f"{name or field}{fault.path}", fault.expected, got, fault.hint)) from None


def _checked(value: Any, hint: Any, field: "dataclasses.Field[Any]", path: str) -> Any:
    """Return a value as its field has it, or raise a ConfigError."""
    try:
        return _value(value, hint, field)
    except _Fault as fault:
        problem = f"expected {fault.expected}" + (f", got {fault.got}" if fault.got else "")
        raise ConfigError(describe_file(f"{path}{fault.path}", problem, fault.hint)) from None


def _value(value: Any, hint: Any, field: "dataclasses.Field[Any]") -> Any:
    """Return a value as its field has it, or raise a fault."""
    kind = _inner(hint)
    if value is None and hint is not kind:
        return None
    if get_origin(kind) is Mapping:
        if not isinstance(value, Mapping):
            hint = f'write a table, {field.name} = {{ key = "value" }}, or in Python pass a dict.'
            raise _Fault("a table", shown(value), hint)
        return _plain(value, "")
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        count = None if kinds[-1] is Ellipsis else len(kinds)
        if not isinstance(value, (tuple, list)) or (count is not None and len(value) != count):
            what = f"a list of {count} values" if count is not None else "a list"
            raise _Fault(what, shown(value), _example(field), error=DTypeError)
        checked = tuple(_value(item, kinds[0], field) for item in value)
        return value if checked == value and all(map(operator.is_, checked, value)) else checked
    if isinstance(kind, types.UnionType):
        kind = str if isinstance(value, str) and str in get_args(kind) else get_args(kind)[0]
    choices: tuple[str, ...] = ()
    if get_origin(kind) is Literal:
        choices, kind = get_args(kind), str
    value = _converted(value, kind)
    if kind in _NAMES and type(value) is not kind and not (kind is float and type(value) is int):
        raise _Fault(_NAMES[kind], shown(value), _example(field), error=DTypeError)
    if type(value) is int and abs(value) >= 2**63:
        raise _Fault("a number of at most 64 bits", "", _example(field))
    if type(value) is float and not math.isfinite(value):
        raise _Fault("a finite number", f"{value}", _example(field))
    limits: Mapping[str, Any] = field.metadata.get("setting", {})
    if choices and value not in choices:
        raise _Fault(f"one of {', '.join(choices)}", shown(value), suggest(value, choices))
    for key, words, wrong in (
        ("least", "at least", operator.lt),
        ("most", "at most", operator.gt),
        ("above", "a number above", operator.le),
        ("below", "a number below", operator.ge),
    ):
        bound = limits.get(key)
        if bound is not None and kind is not str and wrong(value, bound):
            raise _Fault(f"{words} {bound}", f"{value}", _example(field))
    return value


def _converted(value: Any, kind: Any) -> Any:
    """Return a value as one of a type where it means the same; otherwise as it is. True is not a number."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if kind in (int, float) and isinstance(value, (int, np.integer)):
        value = int(value)
        return float(value) if kind is float and abs(value) < 2**63 else value
    if kind is float and isinstance(value, (float, np.floating)):
        number = float(value)
        return number if number == value or value != value else value
    if kind is str and isinstance(value, str):
        return str.__str__(value)
    if kind is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def _plain(value: Any, path: str) -> Any:
    """Return a copy of what TOML can hold, of plain types, or raise a fault."""
    hint = "write a number, a string, true or false, or a list or a table of them."
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _Fault("strings as keys", shown(key), hint, path)
        return {str.__str__(key): _plain(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, path) for item in value]
    for kind in (bool, int, float, str):
        value = _converted(value, kind)
        if type(value) is kind and not (isinstance(value, float) and not math.isfinite(value)):
            return value
    raise _Fault("what a file can hold", shown(value), hint, path)


def _hints(cls: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields; looking them up takes longer than all checks."""
    if cls not in _HINTS:
        _HINTS[cls] = get_type_hints(cls)
    return _HINTS[cls]


_HINTS: dict[type, dict[str, Any]] = {}


def _inner(hint: Any) -> Any:
    """Return X for ``X | None``, and other hints as they are."""
    if isinstance(hint, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else hint
    return hint


def _example(field: "dataclasses.Field[Any]") -> str:
    default = field.default
    if default is dataclasses.MISSING or default is None or default == "":
        return "correct it, or leave it out."
    shown = str(default).lower() if isinstance(default, bool) else default
    shown = list(default) if isinstance(default, tuple) else shown
    return f"the default is {shown!r}." if isinstance(shown, str) and default is shown else f"the default is {shown}."
