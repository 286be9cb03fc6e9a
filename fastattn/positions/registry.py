"""Mechanisms of positions by name, those of plugins too."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastattn.plugin.records import PositionsRecord
from fastattn.plugin.registry import Registry
from fastattn.positions.base import Positions

__all__ = ["REGISTRY", "create", "names", "record", "records", "register"]

_HERE = "fastattn.positions"

_OWN = (
    PositionsRecord("alibi", f"{_HERE}.alibi:Alibi", "-s |i - j|", "Press et al. 2022 (arXiv:2108.12409), section 3"),
    PositionsRecord(
        "learned", f"{_HERE}.tables:Learned", "x_p + w_p", "Gehring et al. 2017 (arXiv:1705.03122), section 3.1"
    ),
    PositionsRecord(
        "rotary", f"{_HERE}.rotary:Rotary", "queries and keys turned by angles that grow with their position",
        "Su et al. 2021 (arXiv:2104.09864), eq. 14, 15 and 34",
    ),
    PositionsRecord(
        "shaw", f"{_HERE}.shaw:RelativeVectors", "keys and values that depend on the distance from the query",
        "Shaw, Uszkoreit, Vaswani 2018 (arXiv:1803.02155), eq. 3 and 4",
    ),
    PositionsRecord(
        "sinusoidal", f"{_HERE}.tables:Sinusoidal", "x_p + sines and cosines of p",
        "Vaswani et al. 2017 (arXiv:1706.03762), section 3.5",
    ),
    PositionsRecord(
        "t5", f"{_HERE}.buckets:RelativeBuckets", "a trained bias for each bucket of distances",
        "Raffel et al. 2020 (arXiv:1910.10683), section 2.1",
    ),
)  # fmt: skip

REGISTRY = Registry(PositionsRecord, Positions, _OWN)
names = REGISTRY.names
record = REGISTRY.record
records = REGISTRY.records
register = REGISTRY.register


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
        One of `names`; or a mapping of its settings and its ``name``, such as ``{"name": "rotary", "base": 5e5}``; or
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
    decided = {"width": width, "heads": heads, "head_width": head_width, "rng": rng, "dtype": dtype}
    if not isinstance(positions, Mapping) or "bidirectional" not in positions:  # which is a setting, too
        decided["bidirectional"] = bidirectional
    return REGISTRY.read(positions, **decided)
