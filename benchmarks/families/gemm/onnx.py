"""ONNX Runtime's product with a constant; in int8 with x quantized as it comes, and w by its columns."""

import numpy as np

from ...case import Arrays, Case, Run
from ..attention.onnx import collect, node, runner

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "int8")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    x, w = {"x": data["x"]}, data["w"]
    if case.precision == "float32":
        return {"": runner([node("MatMul", "x w", "y")], x, {"w": w})}
    scales = np.abs(w).max(axis=0) / np.float32(127)
    constants = {"w": np.rint(w / scales).astype(np.int8), "zeros": np.zeros(len(scales), np.int8), "scales": scales}
    product = [
        node("DynamicQuantizeLinear", "x", "whole scale zero"),
        node("MatMulInteger", "whole w zero zeros", "sums"),
        node("Cast", "sums", "wide", to=1),
        node("Mul", "scale scales", "both"),
        node("Mul", "wide both", "y"),
    ]
    return {"dynamic": runner(product, x, constants)}
