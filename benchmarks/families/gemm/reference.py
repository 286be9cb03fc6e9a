"""The product in float64."""

import numpy as np

from ...case import Arrays, Case
from ...reference import Reference


def compute(case: Case, data: Arrays) -> Reference:
    x, w = (data[name].astype(np.float64) for name in ("x", "w"))
    return Reference({"product": x @ w}, {"product": np.abs(x) @ np.abs(w)})
