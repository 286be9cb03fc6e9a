"""The packed product of fastattn; x is float32, and rounded by the product where the matrix is narrower."""

from ...case import Arrays, Case, Run
from ...case import named as collect

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16", "int8")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    from fastattn import linear

    packed, x = linear.PackedWeights(data["w"], None if case.precision == "float32" else case.precision), data["x"]
    return {"": lambda: packed.matmul(x)}
