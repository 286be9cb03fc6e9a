"""The formulas in float64; errors in units of the largest value, once for each step, as every step adds one."""

import numpy as np

from ...case import Arrays, Case
from ...reference import Reference
from .numpy import layer


def compute(case: Case, data: Arrays) -> Reference:
    values = layer(case.options["layer"], {name: array.astype(np.float64) for name, array in data.items()})
    steps = case.sizes["T"]
    units = {name: np.full_like(value, steps * np.abs(value).max()) for name, value in values.items()}
    return Reference(values, units, steps=steps)
