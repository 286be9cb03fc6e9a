"""The packed product of fastattn; x is float32, and rounded by the product where the matrix is narrower.

With a matrix of bfloat16, rows of that type are multiplied too, as other libraries take them.
"""

import importlib.util

from ...case import Arrays, Case, Run
from ...case import named as collect

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16", "int8")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    from fastattn import linear

    packed, x = linear.PackedWeights(data["w"], None if case.precision == "float32" else case.precision), data["x"]
    runs: dict[str, Run] = {"": lambda: packed.matmul(x)}
    if case.precision == "bfloat16" and importlib.util.find_spec("ml_dtypes"):
        import ml_dtypes

        rows = x.astype(ml_dtypes.bfloat16)
        runs["rows of bfloat16"] = lambda: packed.matmul(rows)
    return runs
