"""What a package that extends fastattn hands over, and who is found to have done so.

`VariantRecord`, `ScoreRecord`, `NormalizerRecord`, `PositionsRecord` and `ModelRecord` are what the hooks of a plugin
return (`fastattn.plugin.hookspecs`); `providers` loads plugins (`fastattn.plugin.manager`), and a
`fastattn.plugin.registry.Registry` has all of a family by name.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastattn.plugin.records import (
    ModelRecord,
    NormalizerRecord,
    PositionsRecord,
    Record,
    ScoreRecord,
    VariantRecord,
)

if TYPE_CHECKING:
    from fastattn.plugin.manager import isolated, providers, reload

__all__ = [
    "ModelRecord",
    "NormalizerRecord",
    "PositionsRecord",
    "Record",
    "ScoreRecord",
    "VariantRecord",
    "isolated",
    "providers",
    "reload",
]


def __getattr__(name: str) -> Any:
    if name in ("isolated", "providers", "reload"):
        return getattr(importlib.import_module(f"{__name__}.manager"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
