"""ONNX Runtime: the formula in operators of ONNX. It has no gradients."""

from ...case import Arrays, Case, Run
from ..attention.onnx import collect, node, runner, softmax_times

__all__ = ["collect", "prepare"]


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    if case.backward:
        return {}
    inputs = {"query": data["query"][:, :, None], "key": data["key"][:, None], "value": data["value"]}
    formula = [
        node("Add", "query key", "sum"),
        node("Tanh", "sum", "inner"),
        node("MatMul", "inner v", "scores"),
        *softmax_times("scores"),
    ]
    return {"": runner(formula, inputs, {"v": data["v"]})}
