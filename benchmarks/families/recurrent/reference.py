"""The formulas in float64; errors in units of the largest value, once for each step, as every step adds one."""

import numpy as np

from ...case import Arrays, Case
from ...reference import Reference
from ..attention.reference import exact
from .numpy import layer


def compute(case: Case, data: Arrays) -> Reference:
    values = layer(case.options["layer"], exact(data))
    steps = case.sizes["T"]
    return Reference(values, {name: np.full_like(value, steps * np.abs(value).max()) for name, value in values.items()})
