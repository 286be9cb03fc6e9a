"""Scaled dot attention of fastattn."""

from ...case import Arrays, Case, Run
from ..attention.ours import collect, run

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    """The options of a case, ``causal`` or ``normalizer``, are those of the call."""
    return run(case, data, **{name: value for name, value in case.options.items() if name != "prepared"})
