"""The layers of fastattn."""

from typing import Any

import numpy as np

from ...case import Arrays, Case, Run
from ...case import named as collect
from ..training.ours import within

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16", "int8")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    from fastattn import layers

    make = {"gru": layers.GRU, "lstm": layers.LSTM}[case.options["layer"]]
    layer = make(case.sizes["D"], case.sizes["H"], rng=np.random.default_rng(0))
    parameters = layer.parameters()
    for name, parameter in parameters.items():
        parameter.assign(data[name])
    x = data["x"]
    if case.precision == "int8":
        if case.backward:
            return {}
        layer.store("int8")  # of products with inputs; those of states are in "medium"
    if not case.backward:
        return {"": within(case, lambda: layer.forward(x)[0])}

    def both() -> Any:
        for parameter in parameters.values():
            parameter.gradient.fill(0)
        y, _, backward = layer.vjp(x)
        d_x, _ = backward(data["d_y"])
        return (y, d_x, *(parameter.gradient for parameter in parameters.values()))

    return {"": within(case, both)}
