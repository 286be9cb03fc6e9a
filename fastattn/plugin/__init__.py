"""What a package that extends fastattn hands over, and who is found to have done so.

`VariantRecord`, `ScoreRecord` and `NormalizerRecord` are what the hooks of a plugin return
(`fastattn.plugin.hookspecs`); `providers` and `find` load plugins (`fastattn.plugin.manager`).
"""

import importlib
from typing import TYPE_CHECKING, Any

from fastattn.plugin.records import NormalizerRecord, Record, ScoreRecord, VariantRecord

if TYPE_CHECKING:
    from fastattn.plugin.manager import find, isolated, providers, reload

__all__ = [
    "NormalizerRecord",
    "Record",
    "ScoreRecord",
    "VariantRecord",
    "find",
    "isolated",
    "providers",
    "reload",
]


def __getattr__(name: str) -> Any:
    if name in ("find", "isolated", "providers", "reload"):
        return getattr(importlib.import_module(f"{__name__}.manager"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
