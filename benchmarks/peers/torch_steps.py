"""Decoder steps of attention mechanisms written plainly in PyTorch; compiled, a step is one graph."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from .. import steps
from ..cases import Case
from ..inputs import Arrays
from .base import Run


def _scores(case: Case, p: dict[str, Any], query: Any, keys: Any, weights: Any, total: Any, lengths: Any) -> Any:
    """Scores of a step, and the factor of its weights or None."""
    if case.mechanism == "local_p":
        scores = (keys @ query[..., None])[..., 0]
        centre = lengths[:, None] * torch.sigmoid(torch.tanh(query @ p["position.w"]) @ p["v_p"])
        away = torch.arange(keys.shape[1]) - centre
        scores = scores.masked_fill(away.abs() > case.sizes["N"], -torch.inf)
        return scores, torch.exp(-2 * (away / case.sizes["N"]) ** 2)
    inner = (query @ p["query.w"])[:, None] + keys
    if case.mechanism == "coverage":
        inner = inner + total[..., None] * p["u"]
    if case.mechanism == "location_sensitive":
        filters = p["filters"]
        features = functional.conv1d(weights[:, None], filters[:, None], padding=filters.shape[1] // 2)
        inner = inner + features.mT @ p["u"]
    return torch.tanh(inner) @ p["v"], None


def prepare(case: Case, data: Arrays, compiled: bool) -> dict[str, Run]:
    """All steps, and all steps with every gradient."""
    p = {name: torch.from_numpy(data[name].copy()) for name in steps.differentiated(case)}
    lengths = torch.from_numpy(data["lengths"])
    outside = torch.arange(case.sizes["S"]) >= lengths[:, None]
    zeros = torch.zeros(case.sizes["B"], case.sizes["S"])

    def step(query: Any, keys: Any, memory: Any, weights: Any, total: Any) -> Any:
        scores, factor = _scores(case, p, query, keys, weights, total, lengths)
        weights = torch.softmax(scores.masked_fill(outside, -torch.inf), -1)
        weights = weights if factor is None else weights * factor
        return (weights[:, None] @ memory)[:, 0], weights, total + weights

    run_step = torch.compile(step, dynamic=False) if compiled else step

    def forward() -> Any:
        keys = p["memory"] @ (p["align.w"].mT if case.mechanism == "local_p" else p["key.w"])
        weights, total, found = zeros, zeros, []
        for t in range(case.sizes["T"]):
            context, weights, total = run_step(p["queries"][:, t], keys, p["memory"], weights, total)
            found.append(context)
        return torch.stack(found, 1)

    if not case.backward:

        def inference() -> Any:
            with torch.no_grad():
                return forward()

        return {"": inference}
    d_context = torch.from_numpy(data["d_context"].copy())
    for tensor in p.values():
        tensor.requires_grad_()

    def both() -> Any:
        context = forward()
        return (context, *torch.autograd.grad(context, list(p.values()), d_context))

    return {"": both}


def collect(case: Case, result: Any) -> Arrays:
    """What is compared of a result."""
    context, *gradients = result if isinstance(result, tuple) else (result,)
    named = zip(steps.differentiated(case), gradients) if gradients else ()
    return steps.examine(case, context.detach().numpy(), {name: tensor.numpy() for name, tensor in named})
