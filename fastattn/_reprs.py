"""What an object says of itself in one line: names, widths, shapes and dtypes, and never the numbers of an array."""

import dataclasses
import reprlib
from collections.abc import Mapping
from typing import Any

__all__ = ["attributes", "brief", "fields", "settings", "shapes", "words"]

_LONGEST = 200  # characters of parameters that are named one by one


class _Brief(reprlib.Repr):
    def repr_ndarray(self, x: Any, level: int) -> str:
        return repr(x.item()) if x.ndim == 0 else f"{x.dtype} {x.shape}"


_brief = _Brief()
_brief.maxstring, _brief.maxother, _brief.maxlist, _brief.maxtuple, _brief.maxdict = 80, 300, 8, 8, 8


def brief(value: object) -> str:
    """Return one value: an array as its dtype and shape, long texts and collections cut short, all else as its repr.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn._reprs import brief
    >>> brief([np.ones((2, 3)), "a" * 100])
    "[float64 (2, 3), 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa']"
    """
    return _brief.repr(value)


def words(made: object, *said: str, **values: Any) -> str:
    """Return ``Name(said, ..., key=value, ...)``, without what is said with no word."""
    named = [f"{name}={brief(value)}" for name, value in values.items()]
    return f"{type(made).__name__}({', '.join([*filter(None, said), *named])})"


def fields(record: Any) -> str:
    """Return what a record, a dataclass or a named tuple, is made of: its ``__repr__``."""
    names = getattr(record, "_fields", None) or [one.name for one in dataclasses.fields(record) if one.repr]
    return words(record, **{name: getattr(record, name) for name in names})


def settings(record: Any) -> str:
    """Return the fields of a dataclass that differ from their defaults: its ``__repr__``, which can be evaluated."""
    found = {}
    for one in dataclasses.fields(record):
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        if one.init and getattr(record, one.name) != default:
            found[one.name] = getattr(record, one.name)
    return f"{type(record).__name__}({', '.join(f'{name}={value!r}' for name, value in found.items())})"


def attributes(made: object) -> str:
    """Return the public attributes of an object: its ``__repr__``."""
    return words(made, **{name: value for name, value in vars(made).items() if not name.startswith("_")})


def shapes(arrays: Mapping[str, Any]) -> str:
    """Return names and shapes of some arrays or parameters and their dtype; of many, how many they are."""
    values = {name: getattr(array, "value", array) for name, array in arrays.items()}
    if not values:
        return ""
    named = ", ".join(f"{name}: {array.shape}" for name, array in values.items())
    many = f"{sum(array.size for array in values.values()):,} parameters in {len(values)} arrays"
    dtypes = "/".join(sorted({str(array.dtype) for array in values.values()}))
    return f"{named if len(named) <= _LONGEST else many}, {dtypes}"
