"""Inputs of a case: float32, C-contiguous, the same for every contestant and every run."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import bahdanau, steps, transformer
from .cases import Case

Arrays = dict[str, np.ndarray]


def make(case: Case, seed: int = 20240229) -> Arrays:
    """Arrays of `case`, standard normal; ``v`` of additive attention has the norm that a trained one has, about 1."""
    rng = np.random.default_rng(seed)
    size = case.sizes

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    if case.family == "gemm":
        return {"x": normal(size["M"], size["K"]), "w": normal(size["K"], size["N"])}
    if case.family == "bahdanau":
        return bahdanau.inputs(case, rng)
    if case.family == "transformer":
        return transformer.inputs(case, rng)
    if case.family == "steps":
        return steps.inputs(case, rng)
    if case.family in ("gru", "lstm"):
        return _recurrent(case, normal)
    if case.family == "additive":
        data = {
            "query": normal(size["B"], size["Tq"], size["Da"]),
            "key": normal(size["B"], size["Tk"], size["Da"]),
            "value": normal(size["B"], size["Tk"], size["Dv"]),
            "v": normal(size["Da"]) / np.float32(np.sqrt(size["Da"])),
        }
        context: tuple[int, ...] = (size["B"], size["Tq"], size["Dv"])
    elif case.family in ("dot", "sparse"):
        lead = (size["B"], size["H"])
        data = {
            "query": normal(*lead, size["Tq"], size["D"]),
            "key": normal(*lead, size["Tk"], size["D"]),
            "value": normal(*lead, size["Tk"], size["D"]),
        }
        context = (*lead, size["Tq"], size["D"])
    else:
        raise ValueError(f"no inputs for the family {case.family!r}")
    if case.backward:
        data["d_context"] = normal(*context)
    return data


def _recurrent(case: Case, normal: Callable[..., np.ndarray]) -> Arrays:
    """Weights as large as those of a fresh layer: their rows have norm 1/sqrt(3)."""
    size, gates = case.sizes, 4 if case.family == "lstm" else 3
    width = gates * size["H"]
    bound = np.float32((3 * size["H"]) ** -0.5)
    data = {
        "x": normal(size["B"], size["T"], size["D"]),
        "w_input": normal(size["D"], width) * bound,
        "w_hidden": normal(size["H"], width) * bound,
    }
    for name in ("b",) if case.family == "lstm" else ("b_input", "b_hidden"):
        data[name] = normal(width) * bound
    if case.backward:
        data["d_y"] = normal(size["B"], size["T"], size["H"])
    return data
