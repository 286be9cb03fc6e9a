"""Attention with sparsemax and 1.5-entmax in PyTorch: thresholds by sorting, gradients by formula."""

from typing import Any

import torch

from ...case import Arrays, Case, Run
from ..attention.torch import collect, runs

__all__ = ["collect", "prepare", "prepare_compiled"]


class Sparsemax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Any) -> Any:
        scores = scores - scores.amax(-1, keepdim=True)
        ranked = torch.sort(scores, dim=-1, descending=True).values
        ranks = torch.arange(1, scores.shape[-1] + 1, dtype=scores.dtype)
        taus = (ranked.cumsum(-1) - 1) / ranks
        support = (taus < ranked).sum(-1, keepdim=True)
        weights = torch.clamp(scores - taus.gather(-1, support - 1), min=0)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, d_weights: Any) -> Any:
        (weights,) = ctx.saved_tensors
        slope = (weights > 0).to(weights.dtype)
        return slope * (d_weights - (slope * d_weights).sum(-1, keepdim=True) / slope.sum(-1, keepdim=True))


class Entmax15(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Any) -> Any:
        x = (scores - scores.amax(-1, keepdim=True)) / 2
        ranked = torch.sort(x, dim=-1, descending=True).values
        ranks = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
        mean = ranked.cumsum(-1) / ranks
        spread = (ranked * ranked).cumsum(-1) - ranks * mean * mean
        taus = mean - torch.sqrt(torch.clamp((1 - spread) / ranks, min=0))
        support = (taus <= ranked).sum(-1, keepdim=True)
        slope = torch.clamp(x - taus.gather(-1, support - 1), min=0)
        ctx.save_for_backward(slope)
        return slope * slope

    @staticmethod
    def backward(ctx: Any, d_weights: Any) -> Any:
        (slope,) = ctx.saved_tensors
        return slope * (d_weights - (slope * d_weights).sum(-1, keepdim=True) / slope.sum(-1, keepdim=True))


def prepare(case: Case, data: Arrays, compiled: bool = False) -> dict[str, Run]:
    weights = {"sparsemax": Sparsemax, "entmax15": Entmax15}[case.options["normalizer"]].apply

    def sort(query: Any, key: Any, value: Any) -> Any:
        return weights((query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)) @ value

    return runs(case, data, {"sort": sort}, compiled)


def prepare_compiled(case: Case, data: Arrays) -> dict[str, Run]:
    return prepare(case, data, True)
