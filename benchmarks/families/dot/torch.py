"""PyTorch's fused attention, and the formula in tensor operations."""

from typing import Any

import torch
from torch.nn import functional

from ...case import Arrays, Case, Run
from ..attention.torch import collect, runs

__all__ = ["collect", "prepare", "prepare_compiled"]
PRECISIONS = ("float32", "bfloat16")


def prepare(case: Case, data: Arrays, compiled: bool = False) -> dict[str, Run]:
    causal = case.options.get("causal", False)

    def sdpa(query: Any, key: Any, value: Any) -> Any:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=causal)

    def formula(query: Any, key: Any, value: Any) -> Any:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return torch.softmax(scores, -1) @ value

    # The formula needs a mask tensor for causal attention, where the fused operation is always ahead.
    return runs(case, data, {"sdpa": sdpa} if causal else {"sdpa": sdpa, "formula": formula}, compiled)


def prepare_compiled(case: Case, data: Arrays) -> dict[str, Run]:
    return prepare(case, data, True)
