"""Inputs of a case: float32, C-contiguous, the same for every contestant and every run.

Those of a case of bfloat16 are numbers that bfloat16 has: whoever computes with it, or with more, has the same problem.
"""

import numpy as np

from . import families
from .case import Arrays, Case


def make(case: Case, seed: int = 20240229) -> Arrays:
    """Arrays of `case` by name."""
    found: Arrays = families.part(case.family, "inputs").make(case, np.random.default_rng(seed))
    return {name: _rounded(array) for name, array in found.items()} if case.precision == "bfloat16" else found


def _rounded(array: np.ndarray) -> np.ndarray:
    """float32 numbers rounded to nearest, ties to even, at the upper half of their bits; others as they are."""
    if array.dtype != np.float32:
        return array
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).reshape(array.shape)
