"""Mechanisms of positions by name."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastattn.errors import ArgumentError, DTypeError, describe, did_you_mean
from fastattn.positions.alibi import Alibi
from fastattn.positions.base import Positions
from fastattn.positions.buckets import RelativeBuckets
from fastattn.positions.rotary import Rotary
from fastattn.positions.shaw import RelativeVectors
from fastattn.positions.tables import Learned, Sinusoidal

__all__ = ["NAMES", "create"]

_KINDS: dict[str, Any] = {
    "alibi": Alibi,
    "learned": Learned,
    "rotary": Rotary,
    "shaw": RelativeVectors,
    "sinusoidal": Sinusoidal,
    "t5": RelativeBuckets,
}
NAMES = tuple(_KINDS)


def create(
    positions: str | Mapping[str, Any] | Positions | None,
    *,
    width: int,
    heads: int,
    head_width: int,
    rng: np.random.Generator,
    dtype: Any,
    bidirectional: bool = True,
) -> Positions:
    """Make a mechanism of positions.

    Parameters
    ----------
    positions : str, mapping, Positions or None
        One of `NAMES`; or a mapping of its settings and its ``name``, such as ``{"name": "rotary", "base": 5e5}``; or
        one that was made, which layers can share; or None for none.
    width, heads, head_width : int
        Of inputs, and of the attention.
    rng : numpy.random.Generator
    dtype : dtype
    bidirectional : bool
        Whether queries see keys after them.

    Returns
    -------
    Positions

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn import positions
    >>> sizes = {"width": 8, "heads": 2, "head_width": 4, "rng": np.random.default_rng(0), "dtype": np.float32}
    >>> positions.create({"name": "rotary", "layout": "half"}, **sizes).name
    'rotary'
    """
    if positions is None:
        return Positions()
    if isinstance(positions, Positions):
        return positions
    settings: Any = {"name": positions} if isinstance(positions, str) else positions
    if not isinstance(settings, Mapping):
        hint = f"pass one of {', '.join(NAMES)}, or a mapping with its name and settings."
        raise DTypeError(describe("positions", "a name or a mapping", type(positions).__name__, hint))
    given = dict(settings)
    name = given.pop("name", None)
    if not isinstance(name, str) or name not in _KINDS:
        hint = did_you_mean(name, NAMES, "use one of these names, or None for none.")
        raise ArgumentError(describe("positions", f"one of {', '.join(NAMES)}", repr(name), hint))
    kind = _KINDS[name]
    known = inspect.signature(kind).parameters
    sizes = {
        "width": head_width if kind in (Rotary, RelativeVectors) else width,
        "heads": heads,
        "rng": rng,
        "dtype": dtype,
    }
    for option in given:
        if option not in known or option in sizes:
            options = [n for n in known if n not in sizes]
            expected = f"a setting of {name!r}: {', '.join(options) or 'none'}"
            raise ArgumentError(describe(f"positions.{option}", expected, option, did_you_mean(option, options)))
    made: Positions = kind(
        **{n: v for n, v in {"bidirectional": bidirectional, **sizes}.items() if n in known and n not in given}, **given
    )
    return made
