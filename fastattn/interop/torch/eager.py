"""Attention as one node of autograd: what runs where PyTorch neither traces nor transforms.

A custom operator costs 20 us a call more. It is what runs everywhere else: `fastattn.interop.torch.operators`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from fastattn.interop.torch import operators
from fastattn.interop.torch.problem import Operands, Problem
from fastattn.interop.torch.tensors import HALVES, is_watched, narrowed, widened

__all__ = ["attend"]


def attend(problem: Problem, given: Operands) -> tuple[Tensor | None, ...]:
    """Return context, weights or None, and lse or None."""
    if given.query.dtype in HALVES:
        context, weights, lse = attend(problem, widened(given))
        return narrowed(context, given.query), narrowed(weights, given.query), lse
    if is_watched((*given[:-1], *given.parameters)):
        return operators.attend(problem, given)
    if forward_ad._current_level < 0 and not (torch.is_grad_enabled() and trained(given)):
        return problem.forward(given)[:3]
    # Every argument costs autograd a third of a microsecond, and most calls have three.
    more = (*given[3:7], *given.parameters) if given[3:] != _NOTHING else ()
    return _Attention.apply(problem, *given[:3], *more)


def trained(given: Operands) -> bool:
    """Whether a gradient will be asked for."""
    query, key, value, bias = given[:4]
    return (
        query.requires_grad
        or key.requires_grad
        or value.requires_grad
        or (bias is not None and bias.requires_grad)
        or any(one.requires_grad for one in given.parameters)
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, problem: Problem, *tensors: Tensor) -> Any:
        """Compute, and save tensors alone, so that autograd notices which were changed before the backward pass."""
        given = _operands(tensors)
        context, weights, lse, row_max, row_sum = problem.forward(given)
        ctx.problem = problem
        ctx.save_for_backward(*tensors, context, weights, row_max, row_sum)
        ctx.set_materialize_grads(False)
        return context, weights, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *d: Tensor | None) -> Any:
        """Return the gradients of all that went in."""
        if all(one is None for one in d):
            return (None,) * len(ctx.needs_input_grad)
        *tensors, context, weights, row_max, row_sum = ctx.saved_tensors
        given = _operands(tensors)
        saved, wanted = (context, weights, row_max, row_sum), ctx.needs_input_grad
        run = operators.gradients if is_watched((*tensors, *d)) else Problem.backward
        found = run(ctx.problem, given, saved, d, len(tensors) > 3 and wanted[4])
        return (None, *found[:4], None, None, None, *found[4:]) if len(tensors) > 3 else (None, *found[:3])


def _operands(tensors: Sequence[Tensor]) -> Operands:
    more = (*tensors[3:7], tensors[7:]) if len(tensors) > 3 else _NOTHING
    return Operands(*tensors[:3], *more)


_NOTHING = (None, None, None, None, ())  # bias, mask, lengths, seed and parameters
