"""Inputs of a case: float32, C-contiguous, the same for every contestant and every run."""

import numpy as np

from . import families
from .case import Arrays, Case


def make(case: Case, seed: int = 20240229) -> Arrays:
    """Arrays of `case` by name."""
    found: Arrays = families.part(case.family, "inputs").make(case, np.random.default_rng(seed))
    return found
