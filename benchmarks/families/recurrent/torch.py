"""`torch.nn.GRU` or `torch.nn.LSTM` with our weights; an LSTM has a second bias there, which stays zero."""

from typing import Any

import numpy as np
import torch

from ...case import Arrays, Case, Run, named
from ..attention.torch import arrays, call, tensor
from ..gemm.torch import quantized

PRECISIONS = ("float32", "bfloat16", "int8")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    lstm = case.options["layer"] == "lstm"
    make = torch.nn.LSTM if lstm else torch.nn.GRU
    layer = make(case.sizes["D"], case.sizes["H"], batch_first=True)
    biases = [data["b"], np.zeros_like(data["b"])] if lstm else [data["b_input"], data["b_hidden"]]
    values = [data["w_input"].T, data["w_hidden"].T, *biases]
    parameters = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0]
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(torch.from_numpy(value.copy()))
    x = tensor(case, data["x"])
    if case.precision == "int8":
        if case.backward:
            return {}
        small = quantized(torch.nn.ModuleList([layer]), make)[0]
        return {"dynamic": call(case, lambda x: small(x)[0], [x], (), None)}
    if case.precision == "bfloat16":
        layer = layer.to(torch.bfloat16)
        parameters = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0]
    return {"": call(case, lambda x: layer(x)[0], [x], [x, *parameters], data.get("d_y"))}


def collect(case: Case, result: Any) -> Arrays:
    y, *gradients = arrays(result)
    if gradients:  # weights are (outputs, inputs) there; the second bias of an LSTM is left out
        d_x, *others = gradients[: len(case.results) - 1]
        gradients = [d_x, *(array.T for array in others)]
    return named(case, (y, *gradients))
