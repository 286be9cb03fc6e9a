"""PyTorch's linear layer, with weights (outputs, inputs) as it keeps them."""

import numpy as np
import torch
from torch.nn import functional

from ...case import Arrays, Case, Run
from ..attention.torch import call, collect

__all__ = ["collect", "prepare"]


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    tensors = [torch.from_numpy(data["x"].copy()), torch.from_numpy(np.ascontiguousarray(data["w"].T))]
    return {"linear": call(case, functional.linear, tensors, (), None)}
