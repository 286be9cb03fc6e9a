"""PyTorch's linear layer, with weights (outputs, inputs) as it keeps them; in int8 its dynamic quantization."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from ...case import Arrays, Case, Run
from ..attention.torch import call, collect, tensor

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16", "int8")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    x, w = tensor(case, data["x"]), tensor(case, np.ascontiguousarray(data["w"].T))
    if case.precision == "int8":
        layer = torch.nn.Linear(w.shape[1], w.shape[0], bias=False)
        layer.weight.data = w
        return {"dynamic": call(case, quantized(torch.nn.Sequential(layer), torch.nn.Linear), [x], (), None)}
    return {"linear": call(case, functional.linear, [x, w], (), None)}


def quantized(model: Any, kind: type) -> Callable[..., Any]:
    """A model whose layers of a kind have int8 weights, and quantize their inputs as they come."""
    changed: Callable[..., Any] = torch.ao.quantization.quantize_dynamic(model, {kind}, dtype=torch.qint8)
    return changed
