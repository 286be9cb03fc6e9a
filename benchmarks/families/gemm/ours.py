"""The packed product of fastattn."""

from ...case import Arrays, Case, Run
from ...case import named as collect

__all__ = ["collect", "prepare"]


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    from fastattn import linear

    packed, x = linear.PackedWeights(data["w"]), data["x"]
    return {"": lambda: packed.matmul(x)}
