"""PyTorch's compiled `flex_attention`, which has no backward pass on CPUs, and the formula."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from ...case import Arrays, Case, Run
from ..attention.torch import collect, runs
from .inputs import CAP, WIDTH

__all__ = ["collect", "prepare", "prepare_compiled"]


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    return runs(case, data, {"formula": _formula(case)})


def prepare_compiled(case: Case, data: Arrays) -> dict[str, Run]:
    formulas = {"formula": _formula(case)}
    if not case.backward and case.options["function"] != "additive":
        formulas["flex_attention"] = _flex(case)
    return runs(case, data, formulas, compiled=True)


def _formula(case: Case) -> Callable[..., Any]:
    places = torch.arange(case.sizes["Tq"])[:, None], torch.arange(case.sizes["Tk"])
    far = (places[0] - places[1]).abs()
    scale = case.sizes["D"] ** -0.5

    def alibi(query: Any, key: Any, value: Any, slopes: Any) -> Any:
        scores = (query * scale) @ key.transpose(-1, -2) - slopes[:, None, None] * far
        return torch.softmax(scores, -1) @ value

    def softcap(query: Any, key: Any, value: Any) -> Any:
        scores = CAP * torch.tanh((query * scale) @ key.transpose(-1, -2) / CAP)
        return torch.softmax(scores, -1) @ value

    def window(query: Any, key: Any, value: Any) -> Any:
        scores = ((query * scale) @ key.transpose(-1, -2)).masked_fill(far > WIDTH, float("-inf"))
        return torch.softmax(scores, -1) @ value

    def additive(query: Any, key: Any, value: Any, v: Any) -> Any:
        scores = torch.tanh(query[..., :, None, :] + key[..., None, :, :]) @ v
        return torch.softmax(scores, -1) @ value

    functions: dict[str, Callable[..., Any]]
    functions = {"alibi": alibi, "softcap": softcap, "window": window, "additive": additive}
    return functions[case.options["function"]]


def _flex(case: Case) -> Callable[..., Any]:
    count, keys = case.sizes["Tq"], case.sizes["Tk"]

    def near(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (i - j).abs() <= WIDTH

    blocks: Any = None
    if case.options["function"] == "window":
        blocks = create_block_mask(near, None, None, count, keys, device="cpu")

    def alibi(query: Any, key: Any, value: Any, slopes: Any) -> Any:
        return flex_attention(query, key, value, lambda score, b, h, i, j: score - slopes[h] * (i - j).abs())

    def softcap(query: Any, key: Any, value: Any) -> Any:
        return flex_attention(query, key, value, lambda score, b, h, i, j: CAP * torch.tanh(score / CAP))

    def window(query: Any, key: Any, value: Any) -> Any:
        return flex_attention(query, key, value, block_mask=blocks)

    functions: dict[str, Callable[..., Any]] = {"alibi": alibi, "softcap": softcap, "window": window}
    return functions[case.options["function"]]
