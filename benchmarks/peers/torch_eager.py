"""PyTorch without compilation: its own fused attention and linear layer, and the formula in tensor operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cases import Case
from ..inputs import Arrays
from . import torch_bahdanau
from .base import Run, input_names, name_outputs

NAME = "torch eager"


def load(threads: int) -> Torch:
    return Torch(threads)


def formulas(case: Case) -> dict[str, Callable[..., Any]]:
    """The operation of `case` in PyTorch, by spelling; both ways to form additive scores, as either may be faster."""
    import torch
    from torch.nn import functional

    def additive_matmul(query: Any, key: Any, value: Any, v: Any) -> Any:
        scores = torch.tanh(query[:, :, None, :] + key[:, None, :, :]) @ v
        return torch.softmax(scores, -1) @ value

    def additive_sum(query: Any, key: Any, value: Any, v: Any) -> Any:
        scores = (torch.tanh(query[:, :, None, :] + key[:, None, :, :]) * v).sum(-1)
        return torch.softmax(scores, -1) @ value

    def sdpa(query: Any, key: Any, value: Any) -> Any:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=case.causal)

    def formula(query: Any, key: Any, value: Any) -> Any:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        return torch.softmax(scores, -1) @ value

    if case.family == "sparse":
        from . import torch_sparse

        return torch_sparse.formulas(case.normalizer)
    if case.family == "additive":
        return {"matmul": additive_matmul, "sum": additive_sum}
    # The formula needs a mask tensor for causal attention, where the fused operation is always ahead.
    return {"sdpa": sdpa} if case.causal else {"sdpa": sdpa, "formula": formula}


def bind(case: Case, data: Arrays, function: Callable[..., Any]) -> Run:
    """A call without arguments: forward under ``no_grad``, or forward and the gradient of every input."""
    import torch

    tensors = [torch.from_numpy(data[name].copy()) for name in input_names(case)]
    if not case.backward:

        def forward() -> Any:
            with torch.no_grad():
                return function(*tensors)

        return forward
    d_context = torch.from_numpy(data["d_context"].copy())
    for tensor in tensors:
        tensor.requires_grad_()

    def both() -> Any:
        context = function(*tensors)
        return (context, *torch.autograd.grad(context, tensors, d_context))

    return both


def recurrent(case: Case, data: Arrays) -> Run:
    """`torch.nn.GRU` or `torch.nn.LSTM` with our weights; an LSTM has a second bias there, which stays zero."""
    import torch

    size, lstm = case.sizes, case.family == "lstm"
    layer = (torch.nn.LSTM if lstm else torch.nn.GRU)(size["D"], size["H"], batch_first=True)
    biases = [data["b"], np.zeros_like(data["b"])] if lstm else [data["b_input"], data["b_hidden"]]
    values = [data["w_input"].T, data["w_hidden"].T, *biases]
    parameters = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0]
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(torch.from_numpy(value.copy()))
    x = torch.from_numpy(data["x"].copy())
    if not case.backward:

        def forward() -> Any:
            with torch.no_grad():
                return layer(x)[0]

        return forward
    x.requires_grad_()
    d_y, wanted = torch.from_numpy(data["d_y"].copy()), [x, *parameters]

    def both() -> Any:
        y = layer(x)[0]
        return (y, *torch.autograd.grad(y, wanted, d_y))

    return both


class Torch:
    name = NAME

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.version = torch.__version__

    def prepare(self, case: Case, data: Arrays) -> dict[str, Run]:
        import torch

        if case.family == "transformer":  # Marian has a file of its own
            return {}
        if case.family == "bahdanau":
            return torch_bahdanau.prepare(case, data, compiled=False)
        if case.family == "steps":
            from . import torch_steps

            return torch_steps.prepare(case, data, compiled=False)
        if case.family in ("gru", "lstm"):
            return {"": recurrent(case, data)}
        if case.family != "gemm":
            return {spelling: bind(case, data, function) for spelling, function in formulas(case).items()}
        x = torch.from_numpy(data["x"].copy())
        weight = torch.from_numpy(np.ascontiguousarray(data["w"].T))

        def linear() -> Any:
            with torch.no_grad():
                return torch.nn.functional.linear(x, weight)

        return {"linear": linear}

    def collect(self, case: Case, result: Any) -> dict[str, np.ndarray]:
        if case.family == "bahdanau":
            return result.examine()
        if case.family == "steps":
            from . import torch_steps

            return torch_steps.collect(case, result)
        several = result if isinstance(result, tuple) else (result,)
        arrays = tuple(tensor.detach().numpy() for tensor in several)
        if case.family in ("gru", "lstm") and case.backward:
            y, d_x, d_w_input, d_w_hidden, *d_biases = arrays
            arrays = (y, d_x, d_w_input.T, d_w_hidden.T, *(d_biases[:1] if case.family == "lstm" else d_biases))
        return name_outputs(case, arrays)
