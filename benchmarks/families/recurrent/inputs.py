"""Weights as large as those of a fresh layer: their rows have norm 1/sqrt(3)."""

import numpy as np

from ...case import Arrays, Case


def make(case: Case, rng: np.random.Generator) -> Arrays:
    B, T, D, H = case.sizes.values()
    width = (4 if case.options["layer"] == "lstm" else 3) * H
    bound = np.float32((3 * H) ** -0.5)
    shapes = {"x": (B, T, D), "w_input": (D, width), "w_hidden": (H, width)}
    shapes |= dict.fromkeys(case.results[4:], (width,))
    data = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    data = {name: array if name == "x" else array * bound for name, array in data.items()}
    if case.backward:
        data["d_y"] = rng.standard_normal((B, T, H), dtype=np.float32)
    return data
