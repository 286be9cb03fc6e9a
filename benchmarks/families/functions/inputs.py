"""Standard normal arrays; slopes as of Press et al. 2022, and ``v`` with a norm of about 1."""

import numpy as np

from ...case import Arrays, Case

CAP, WIDTH = 20.0, 64  # of the softcap; keys on one side of the window


def make(case: Case, rng: np.random.Generator) -> Arrays:
    B, H, Tq, Tk, D = case.sizes.values()
    shapes = {"query": (B, H, Tq, D), "key": (B, H, Tk, D), "value": (B, H, Tk, D)}
    if case.backward:
        shapes["d_context"] = (B, H, Tq, D)
    data = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    if "slopes" in case.results:
        data["slopes"] = (2.0 ** -np.arange(1, H + 1)).astype(np.float32)
    if "v" in case.results:
        data["v"] = (rng.standard_normal(D) / np.sqrt(D)).astype(np.float32)
    return data
