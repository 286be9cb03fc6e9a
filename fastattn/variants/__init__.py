"""Attention mechanisms of the literature, by name: ``fastattn.create(name, **options)``.

All keep one protocol, described in `fastattn.variants.protocol`. A mechanism's module is imported when it is made.
"""

from typing import Any

from fastattn import _known_as
from fastattn.variants.creation import create
from fastattn.variants.protocol.state import per_sample
from fastattn.variants.protocol.variant import AttentionState, Prepared, StepBackward, Variant
from fastattn.variants.registry import check_normalized, names, options, record, records, register

__all__ = [
    "AttentionState",
    "Prepared",
    "StepBackward",
    "Variant",
    "check_normalized",
    "create",
    "names",
    "options",
    "per_sample",
    "record",
    "records",
    "register",
]


def __getattr__(name: str) -> Any:
    raise _known_as.missing(__name__, name, _known_as.MECHANISMS)
