"""Additive attention of fastattn."""

from ...case import Arrays, Case, Run
from ..attention.ours import collect, run

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    from fastattn import scores

    return run(case, data, score=scores.Additive(data["v"]))
