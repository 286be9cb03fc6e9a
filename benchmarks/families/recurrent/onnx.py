"""ONNX Runtime's LSTM and GRU, in their layout, (T, B, D). They have no gradients."""

from typing import Any

import numpy as np

from ...case import Arrays, Case, Run, named
from ..attention.onnx import node, runner

# Where the operators have our gates: i, o, f, g of i, f, g, o, and z, r, n of r, z, n.
_ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    if case.backward:
        return {}
    kind = case.options["layer"]

    def gates(array: np.ndarray) -> np.ndarray:
        parts = np.split(array, len(_ORDER[kind]), axis=-1)
        return np.concatenate([parts[at] for at in _ORDER[kind]], axis=-1).T

    if kind == "lstm":
        biases = [data["b"], np.zeros_like(data["b"])]
    else:
        biases = [data["b_input"], data["b_hidden"]]
    constants = {
        "w": gates(data["w_input"])[None],
        "r": gates(data["w_hidden"])[None],
        "b": np.concatenate([gates(bias) for bias in biases])[None],
    }
    options = {} if kind == "lstm" else {"linear_before_reset": 1}
    layer = node(kind.upper(), "x w r b", "y", hidden_size=case.sizes["H"], **options)
    return {"": runner([layer], {"x": data["x"].swapaxes(0, 1)}, constants)}


def collect(case: Case, result: Any) -> Arrays:
    return named(case, result[:, 0].swapaxes(0, 1))
