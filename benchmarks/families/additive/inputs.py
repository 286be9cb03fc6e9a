"""Standard normal arrays; ``v`` has the norm that a trained one has, about 1."""

import numpy as np

from ...case import Arrays, Case
from ..attention.inputs import with_cotangent


def make(case: Case, rng: np.random.Generator) -> Arrays:
    B, Tq, Tk, Da, Dv = case.sizes.values()
    shapes = {"query": (B, Tq, Da), "key": (B, Tk, Da), "value": (B, Tk, Dv), "v": (Da,)}
    data = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    data["v"] /= np.float32(np.sqrt(Da))
    return with_cotangent(case, rng, data)
