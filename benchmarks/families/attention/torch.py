"""Formulas in PyTorch as calls, eager or compiled."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ...case import Arrays, Case, Run, named


def runs(
    case: Case, data: Arrays, formulas: Mapping[str, Callable[..., Any]], compiled: bool = False
) -> dict[str, Run]:
    """Calls by spelling; a formula takes the inputs of the case in their order."""
    if not compiled:
        return {spelling: bind(case, data, function) for spelling, function in formulas.items()}
    torch.compiler.reset()  # compiled code of earlier cases counts against a limit that is per line of source
    return {
        spelling: bind(case, data, torch.compile(function, dynamic=False, fullgraph=True))
        for spelling, function in formulas.items()
    }


def bind(case: Case, data: Arrays, function: Callable[..., Any]) -> Run:
    """A call without arguments: forward under ``no_grad``, or forward and the gradient of every input."""
    output, *names = case.results
    tensors = [tensor(case, data[name]) for name in names]
    return call(case, function, tensors, tensors, data.get(f"d_{output}"))


def tensor(case: Case, array: np.ndarray) -> Any:
    """A copy of an array in the precision of the case, of which int8 has inputs of float32."""
    copy = torch.from_numpy(array.copy())
    return copy.to(torch.bfloat16) if case.precision == "bfloat16" else copy


def call(case: Case, function: Callable[..., Any], inputs: Any, wanted: Any, cotangent: Any) -> Run:
    """A call of a function of some inputs, with the gradients of others, say of parameters too."""
    if not case.backward:

        def forward() -> Any:
            with torch.no_grad():
                return function(*inputs)

        return forward
    d_output = tensor(case, cotangent)
    for leaf in wanted:
        leaf.requires_grad_()

    def both() -> Any:
        output = function(*inputs)
        return (output, *torch.autograd.grad(output, wanted, d_output))

    return both


def arrays(result: Any) -> tuple[Any, ...]:
    """Tensors of a result as arrays of float32."""
    return tuple(found.detach().float().numpy() for found in (result if isinstance(result, tuple) else (result,)))


def collect(case: Case, result: Any) -> Arrays:
    return named(case, arrays(result))
