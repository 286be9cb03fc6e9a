"""Standard normal rows and weights."""

import numpy as np

from ...case import Arrays, Case


def make(case: Case, rng: np.random.Generator) -> Arrays:
    M, N, K = case.sizes.values()
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in (("x", (M, K)), ("w", (K, N)))}
