"""Attention as one node of autograd: what runs where PyTorch neither traces nor transforms.

A custom operator costs 20 us a call more. It is what runs everywhere else: `fastattn.interop.torch.operators`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import unwrap_if_dead
from torch.autograd import forward_ad

from fastattn._kernels import core
from fastattn.interop.torch import operators
from fastattn.interop.torch.problem import Operands, Problem
from fastattn.interop.torch.tensors import (
    HALVES,
    check_types,
    follow_threads,
    is_watched,
    narrowed,
    on_unit,
    once,
    widened,
)
from fastattn.precision import captured

__all__ = ["attend", "plain"]


def attend(problem: Problem, given: Operands) -> tuple[Tensor | None, ...]:
    """Return context, weights or None, and lse or None."""
    if given.query.dtype in HALVES and not _on_unit(problem, given):
        context, weights, lse = attend(problem, widened(given))
        return narrowed(context, given.query), narrowed(weights, given.query), lse
    # Every argument costs autograd a third of a microsecond, and most calls have three.
    few = given[3:] == _NOTHING
    tensors = given[:3] if few else (*given[:7], *given[7])
    if is_watched(tensors):
        return operators.attend(problem, given)
    query, key, value = given[:3]
    trained = query.requires_grad or key.requires_grad or value.requires_grad
    if not (trained or few):
        trained = any(one is not None and one.requires_grad for one in tensors)
    if forward_ad._current_level < 0 and not (trained and torch.is_grad_enabled()):
        return problem.forward(given)[:3]
    return _apply((problem, given), *[one if one is None else unwrap_if_dead(one) for one in tensors])


def _on_unit(problem: Problem, given: Operands) -> bool:
    """Whether halves are given to the kernels as they are, which multiply them on a matrix unit."""
    if is_watched(given[:7]) or forward_ad._current_level >= 0:  # before what no compiler can follow
        return False
    if not (on_unit(given.query.dtype) and problem.is_plain):
        return False
    check_types(given)
    return True


def plain(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor | None:
    """Return the context of scaled products without more options, or None where it is not made here.

    It is for the smallest calls, which take as long as what they pass through: here that is the least, and what is out
    of the ordinary, wrong calls too, is left to `attend`.
    """
    if is_watched((query, key, value)) or forward_ad._current_level >= 0:
        return None
    try:
        trained = query.requires_grad or key.requires_grad or value.requires_grad
    except AttributeError:  # of None
        return None
    if trained and torch.is_grad_enabled():
        return _apply_plain(causal, unwrap_if_dead(query), unwrap_if_dead(key), unwrap_if_dead(value))
    found = _plain_numbers(causal, query, key, value)
    return None if found is None else torch.from_numpy(found[0])


def _plain_numbers(causal: bool, query: Tensor, key: Tensor, value: Tensor) -> tuple[Any, Any, Any] | None:
    """Return arrays of the context, and of the maxima and sums of rows."""
    follow_threads()
    try:
        arrays = query.numpy(), key.numpy(), value.numpy()
    except (RuntimeError, TypeError):
        return None
    return core.plain(*arrays, _CAUSAL if causal else _UNMASKED)


def _backward(ctx: Any, saved: Sequence[Any], d: Sequence[Any]) -> Any:
    if all(one is None for one in d):
        return (None,) * len(ctx.needs_input_grad)
    *tensors, context, weights = saved
    problem, rows, backward = ctx.kept
    given = Operands(*tensors[:3], *((*tensors[3:7], tensors[7:]) if len(tensors) > 3 else _NOTHING))
    bias_gradient = len(tensors) > 3 and ctx.needs_input_grad[4]
    d = tuple(d) if len(d) > 1 else (*d, None, None)
    run = operators.gradients if is_watched((*tensors, *d)) else backward
    found = run(problem, given, (context, weights, *rows), d, bias_gradient)
    return (None, *found[:4], None, None, None, *found[4:]) if len(tensors) > 3 else (None, *found[:3])


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Any, *tensors: Tensor) -> Any:
        """Compute, and save tensors alone, so that autograd notices which were changed before the backward pass."""
        problem, given = call  # as one argument
        context, weights, lse, row_max, row_sum, *exact = problem.forward(given)
        ctx.kept = problem, (row_max, row_sum), captured(Problem.backward)  # nobody else has the rows' numbers
        ctx.save_for_backward(*tensors, *exact)
        ctx.set_materialize_grads(False)
        return context, weights, lse

    @staticmethod
    def backward(ctx: Any, *d: Tensor | None) -> Any:
        """Return the gradients of all that went in."""
        saved = ctx.saved_tensors
        if not torch.is_grad_enabled():  # and there is no derivative of gradients to refuse
            return _backward(ctx, saved, d)
        return once(lambda *given: _backward(ctx, given[: len(saved)], given[len(saved) :]), *saved, *d)


class _Plain(_Attention):
    """The same with one output, as each costs autograd as much as an argument."""

    @staticmethod
    def forward(ctx: Any, causal: bool, *tensors: Tensor) -> Tensor | None:
        """Compute and save likewise, or return None."""
        found = _plain_numbers(causal, *tensors)
        if found is None:
            return None
        context = torch.from_numpy(found[0])
        ctx.kept = _PROBLEMS[bool(causal)], found[1:], Problem.backward  # the same in every precision
        ctx.save_for_backward(*tensors, context, None)
        ctx.set_materialize_grads(False)
        return context


# What `apply` itself calls, 3 us later, after it has looked for transformations, as `is_watched` has, and for tensors
# that have left one, as `attend` does.
_apply = super(torch.autograd.Function, _Attention).apply
_apply_plain = super(torch.autograd.Function, _Plain).apply
_NOTHING = (None, None, None, None, ())  # bias, mask, lengths, seed and parameters
_PROBLEMS = Problem(), Problem(causal="top_left")
_UNMASKED, _CAUSAL = core.Options(), core.Options(causal=1)
