"""FlexAttention: functions on scores and masks that were written for PyTorch's, compiled, with all gradients."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastattn._numbers import check_flag
from fastattn.errors import ArgumentError, ShapeError, UnsupportedError, describe
from fastattn.interop.torch.eager import attend
from fastattn.interop.torch.problem import Made, Operands, Problem
from fastattn.interop.torch.symbols import trace
from fastattn.jit.bound import MaskFunction, ScoreModifier
from fastattn.jit.trace import Traced

__all__ = ["flex_attention"]


class _Function(NamedTuple):
    """What makes a function of the kernels from the arrays of the tensors that it captured."""

    traced: Traced
    trained: tuple[bool, ...]

    def __call__(self, **arrays: Any) -> Any:
        made: Any = ScoreModifier if self.traced.kind == "score_mod" else MaskFunction
        given = [arrays[name] for name, _, _ in self.traced.parameters]
        return made(self.traced.kind, self.traced, given, list(self.trained), (self, ()))


def _made(function: Any, kind: str) -> tuple[Made | None, tuple[Tensor, ...]]:
    """Return how a function is made of the tensors that it captured, and these."""
    if function is None:
        return None, ()
    traced, tensors = trace(function, kind)
    names = tuple(name for name, _, _ in traced.parameters)
    trained = tuple(one.requires_grad and kind == "score_mod" for one in tensors)
    return Made(_Function(traced, trained), names), tensors


@torch.compiler.disable
def flex_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: Any = None,
    block_mask: Any = None,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    kernel_options: Any = None,
) -> Any:
    """Compute what ``torch.nn.attention.flex_attention.flex_attention`` does, with gradients, also of what is captured.

    Parameters
    ----------
    query : tensor, shape (B, H, Tq, Dk)
    key, value : tensor, shape (B, Hk, Tk, Dk) and (B, Hk, Tk, Dv)
        Their samples may be one for all.
    score_mod : callable, optional
        ``score_mod(score, b, h, q_idx, kv_idx)``, written for PyTorch: it is called once with symbols, so that it uses
        operators and PyTorch's functions of one number. Tensors that it captured are looked up, one element at a time,
        and have their gradients.
    block_mask : BlockMask, optional
        Its ``mask_mod`` is compiled, and asked once for each block of 64 queries and 64 keys.
    scale : float, optional
        Default 1 / sqrt(Dk).
    enable_gqa : bool
        Hk may divide H.
    return_lse : bool
        Return the log of the sum of exponentials of each row, (B, H, Tq), too; it has a gradient.
    kernel_options : None
        Of PyTorch's own kernels.

    Returns
    -------
    tensor, shape (B, H, Tq, Dv), or the pair of it and the lse

    Raises
    ------
    UnsupportedError
        If a function cannot be compiled; it names what is in the way.

    Notes
    -----
    A new function is compiled for about a second, and kept in the folder ``FASTATTN_CACHE_DIR``. Under
    ``torch.compile`` a call is a break of the graph.
    """
    if kernel_options is not None:
        hint = "leave it out; there is nothing to tune."
        raise UnsupportedError(describe("kernel_options", "None", type(kernel_options).__name__, hint))
    for name, one in (("query", query), ("key", key), ("value", value)):
        if one.ndim != 4:
            hint = "add axes by unsqueeze, or call scaled_dot_product_attention."
            raise ShapeError(describe(name, "4 axes: (B, H, T, D)", f"shape {tuple(one.shape)}", hint))
    if query.shape[1] != key.shape[1] and not enable_gqa:
        hint = "pass enable_gqa=True if the heads of query are a multiple of those of key and value."
        raise ShapeError(describe("key", f"{query.shape[1]} heads, as query has", f"{key.shape[1]} heads", hint))
    if block_mask is not None and not hasattr(block_mask, "mask_mod"):
        hint = "pass create_block_mask(mask_mod, B, H, Q_LEN, KV_LEN)."
        raise ArgumentError(describe("block_mask", "a BlockMask", type(block_mask).__name__, hint))
    modifier, tensors = _made(score_mod, "score_mod")
    mask, more = _made(None if block_mask is None else block_mask.mask_mod, "mask_mod")
    lse = check_flag("return_lse", return_lse)
    key, value = (one.expand(query.shape[0], -1, -1, -1) for one in (key, value))
    problem = Problem(scale=scale, return_lse=lse, score_mod=modifier, mask_mod=mask)
    found = attend(problem, Operands(query, key, value, None, None, None, None, (*tensors, *more)))
    return (found[0], found[2]) if lse else found[0]
