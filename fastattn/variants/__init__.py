"""Attention mechanisms of the literature, by name: ``fastattn.create(name, **options)``.

All keep one protocol, described in `fastattn.variants.base`. A mechanism's module is imported when it is first made.
"""

from fastattn.variants.base import AttentionState, Prepared, StepBackward, Variant
from fastattn.variants.registry import check_normalized, create, names, options, record, records, register
from fastattn.variants.state import per_sample

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
