"""The formula in PyTorch; both ways to form the scores, as either may be faster."""

from typing import Any

import torch

from ...case import Arrays, Case, Run
from ..attention.torch import collect, runs

__all__ = ["collect", "prepare", "prepare_compiled"]
PRECISIONS = ("float32", "bfloat16")


def _matmul(query: Any, key: Any, value: Any, v: Any) -> Any:
    scores = torch.tanh(query[:, :, None, :] + key[:, None, :, :]) @ v
    return torch.softmax(scores, -1) @ value


def _sum(query: Any, key: Any, value: Any, v: Any) -> Any:
    scores = (torch.tanh(query[:, :, None, :] + key[:, None, :, :]) * v).sum(-1)
    return torch.softmax(scores, -1) @ value


def prepare(case: Case, data: Arrays, compiled: bool = False) -> dict[str, Run]:
    return runs(case, data, {"matmul": _matmul, "sum": _sum}, compiled)


def prepare_compiled(case: Case, data: Arrays) -> dict[str, Run]:
    return prepare(case, data, True)
