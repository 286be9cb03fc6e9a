"""FlexAttention: functions on scores and masks that were written for PyTorch's, compiled, with all gradients."""

import reprlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastattn._arrays import Array
from fastattn._numbers import check_flag
from fastattn.errors import ArgumentError, ShapeError, UnsupportedError, describe
from fastattn.interop.torch.eager import attend
from fastattn.interop.torch.problem import Made, Operands, Problem
from fastattn.interop.torch.symbols import trace
from fastattn.interop.torch.tensors import autocasting, check_tensors
from fastattn.jit.bound import BLOCK, MaskFunction, ScoreModifier
from fastattn.jit.trace import Traced

__all__ = ["flex_attention"]


class _Blocks:
    """What a BlockMask lists, (B or 1, H or 1, rows, columns): a block of it is 0 hidden, 1 asked about, 2 shown."""

    def __init__(self, given: Any) -> None:
        queries, keys = given.seq_lengths
        self.rows, self.columns = given.BLOCK_SIZE
        *front, rows = given.kv_num_blocks.shape
        columns = -(-keys // self.columns)
        found = torch.zeros(*front, rows, columns + 1, dtype=torch.uint8)  # the last one takes what is not listed
        listed = ((given.full_kv_num_blocks, given.full_kv_indices, 2), (given.kv_num_blocks, given.kv_indices, 1))
        for counts, places, state in listed:
            if counts is not None:
                there = torch.arange(places.shape[-1]) < counts[..., None]
                found.scatter_(-1, torch.where(there, places, columns).long(), state)
        self.states = found[..., : -(-queries // self.rows), :columns].contiguous()

    @property
    def ours(self) -> bool:
        """Whether its blocks are made of those that kernels know."""
        return self.rows % BLOCK == 0 and self.columns % BLOCK == 0

    def within(self, mask_mod: Any) -> Any:
        """Return a function for blocks of any size."""
        batch, heads = self.states.shape[:2]

        def listed(b: Any, h: Any, q_idx: Any, kv_idx: Any) -> Any:
            state = self.states[
                0 if batch == 1 else b, 0 if heads == 1 else h, q_idx // self.rows, kv_idx // self.columns
            ]
            return (state == 2) | ((state == 1) & mask_mod(b, h, q_idx, kv_idx))

        return listed


class _Listed(MaskFunction):
    """A mask function that is asked only about blocks of which a BlockMask does not say it."""

    blocks: _Blocks

    def block_map(self, batch: int, heads: int, queries: int, keys: int) -> Array:
        """Return the states of blocks, where the list has them."""
        found, listed = super().block_map(batch, heads, queries, keys), self.blocks.states.numpy()
        for axis, size in ((2, self.blocks.rows), (3, self.blocks.columns)):
            listed = np.repeat(listed, size // BLOCK, axis)
        listed = listed[:, :, : found.shape[2], : found.shape[3]]
        return np.where(listed == 1, found, listed // 2)


class _Function(NamedTuple):
    """What makes a function of the kernels from the arrays of the tensors that it captured."""

    traced: Traced
    trained: tuple[bool, ...]
    blocks: _Blocks | None = None

    def __call__(self, **arrays: Any) -> Any:
        made: Any = ScoreModifier if self.traced.kind == "score_mod" else MaskFunction
        made = made if self.blocks is None else _Listed
        given = [arrays[name] for name, _, _ in self.traced.parameters]
        function = made(self.traced.kind, self.traced, given, list(self.trained), (self, ()))
        function.blocks = self.blocks
        return function


def _made(function: Any, kind: str, blocks: _Blocks | None = None) -> tuple[Made, tuple[Tensor, ...]]:
    """Return how a function is made of the tensors that it captured, and these."""
    if blocks is not None and not blocks.ours:
        function, blocks = blocks.within(function), None
    traced, tensors = trace(function, kind)
    names = tuple(name for name, _, _ in traced.parameters)
    trained = tuple(one.requires_grad and kind == "score_mod" for one in tensors)
    return Made(_Function(traced, trained, blocks), names), tensors


def _listed(block_mask: Any, query: Tensor, key: Tensor) -> _Blocks:
    """Return the blocks of a BlockMask, or raise if it is one of other sizes."""
    batch, heads, queries, keys = block_mask.shape
    for name, got, wanted in (
        ("batch entries", batch, (1, query.shape[0])), ("heads", heads, (1, query.shape[1])),
        ("queries", queries, (query.shape[2],)), ("keys", keys, (key.shape[2],)),
    ):  # fmt: skip
        if got not in wanted:
            hint = "make it of the sizes of query and key by create_block_mask."
            raise ShapeError(describe("block_mask", f"{' or '.join(map(str, wanted))} {name}", got, hint))
    return _Blocks(block_mask)


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
    *,
    return_aux: Any = None,
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
        Of this many queries and keys. Its ``mask_mod`` is compiled, and asked once for each block of 64 queries and 64
        keys of those that it lists and does not call full.
    scale : float, optional
        Default 1 / sqrt(Dk).
    enable_gqa : bool
        Hk may divide H.
    return_lse : bool
        Return the log of the sum of exponentials of each row, (B, H, Tq), too; it has a gradient.
    return_aux : AuxRequest, optional
        Return an ``AuxOutput`` beside the context, with the lse if it is asked for.
    kernel_options : None or an empty mapping
        Of PyTorch's own kernels, of which there are none here.

    Returns
    -------
    tensor, shape (B, H, Tq, Dv), or the pair of it and the lse, or of it and the AuxOutput

    Raises
    ------
    UnsupportedError
        If a function cannot be compiled; it names what is in the way.

    Notes
    -----
    A new function is compiled for about a second, and kept in the folder ``FASTATTN_CACHE_DIR``. Under
    ``torch.compile`` a call is a break of the graph.
    """
    return _attend(query, key, value, score_mod, block_mask, scale, enable_gqa, return_lse, kernel_options, return_aux)


@torch.compiler.disable  # beneath flex_attention, as compiling a disabled function itself fails
@autocasting
def _attend(
    query: Tensor, key: Tensor, value: Tensor, score_mod: Any, block_mask: Any, scale: float | None, enable_gqa: bool,
    return_lse: bool, kernel_options: Any, return_aux: Any,
) -> Any:  # fmt: skip
    if kernel_options:
        hint = "leave it out; there is nothing to tune."
        raise UnsupportedError(describe("kernel_options", "None or {}", reprlib.repr(kernel_options), hint))
    check_tensors(query=query, key=key, value=value)
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
    modifier, tensors = (None, ()) if score_mod is None else _made(score_mod, "score_mod")
    mask: Made | None = None
    more: tuple[Tensor, ...] = ()
    if block_mask is not None:
        mask, more = _made(block_mask.mask_mod, "mask_mod", _listed(block_mask, query, key))
    lse = check_flag("return_lse", return_lse)
    if return_aux is not None:
        if return_lse or return_aux.max_scores:
            hint = "pass return_aux=AuxRequest(lse=True) alone."
            raise UnsupportedError(describe("return_aux", "a request of the lse", repr(return_aux), hint))
        lse = check_flag("return_aux.lse", return_aux.lse)
    key, value = (one.expand(query.shape[0], -1, -1, -1) for one in (key, value))
    problem = Problem(scale=scale, return_lse=lse, score_mod=modifier, mask_mod=mask)
    found = attend(problem, Operands(query, key, value, None, None, None, None, (*tensors, *more)))
    if return_aux is not None:
        from torch.nn.attention.flex_attention import AuxOutput  # which not all releases have

        return found[0], AuxOutput(lse=found[2])
    return (found[0], found[2]) if lse else found[0]
