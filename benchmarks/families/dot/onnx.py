"""ONNX Runtime: its fused operator for heads, and the formula in operators of ONNX. It has no gradients."""

from typing import Any

import numpy as np

from ...case import Arrays, Case, Run, named
from ..attention.onnx import node, runner, softmax_times


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    if case.backward:
        return {}
    causal, heads = bool(case.options.get("causal")), case.sizes["H"]
    scale = np.array(case.sizes["D"] ** -0.5, np.float32)
    # The fused operator wants (B, T, H * D): it gets its own layout, transposed outside the timed part.
    flat = {name: array.swapaxes(1, 2).reshape(len(array), -1, heads * array.shape[-1]) for name, array in data.items()}
    fused = node(
        "com.microsoft.MultiHeadAttention", "query key value", "y", num_heads=heads, unidirectional=int(causal)
    )
    turned = {**data, "key": data["key"].swapaxes(-1, -2)}
    formula = [node("Mul", "query scale", "scaled"), node("MatMul", "scaled key", "scores")]
    constants = {"scale": scale}
    if causal:
        past = np.tri(case.sizes["Tq"], case.sizes["Tk"], dtype=bool)
        constants["future"] = np.where(past, 0, -np.inf).astype(np.float32)
        formula.append(node("Add", "scores future", "allowed"))
    formula += softmax_times("allowed" if causal else "scores")
    return {"fused": runner([fused], flat, {}), "formula": runner(formula, turned, constants)}


def collect(case: Case, result: Any) -> Arrays:
    if result.ndim == 3:
        result = result.reshape(*result.shape[:2], case.sizes["H"], -1).swapaxes(1, 2)
    return named(case, result)
