"""Attention as modules of PyTorch."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from fastattn.errors import ArgumentError, ShapeError, describe, did_you_mean
from fastattn.interop.torch.functional import attention
from fastattn.interop.torch.projections import apart, project
from fastattn.interop.torch.tensors import autocasting, check_tensors, narrowed, wide

__all__ = ["AdditiveAttention", "LuongAttention", "MultiheadAttention"]


class MultiheadAttention(nn.MultiheadAttention):
    """``torch.nn.MultiheadAttention``, its arguments, parameters and results, on the fused kernels.

    It is a subclass: a state of one loads into the other, and ``MultiheadAttention(...)`` takes the place of
    ``nn.MultiheadAttention(...)`` in a model. Weights come out of the pass that computes the context, and dropout is
    drawn in it. Nothing of size (Tq, Tk) is stored unless ``need_weights``, which PyTorch has as a default, is True.

    Parameters
    ----------
    embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first, device, dtype
        As in PyTorch.

    Notes
    -----
    A query whose keys are all padding has weights 0 and the output projection's bias, in training and evaluation;
    PyTorch's module gives NaN in some cases. Returned weights are those before dropout. Float masks are added, and
    trained if they require it. Of half types, all between inputs and outputs is float32.

    Inside of ``nn.TransformerEncoderLayer`` PyTorch reads the parameters of this module and does not call it, in
    evaluation without gradients; ``torch.backends.mha.set_fastpath_enabled(False)`` makes it call.
    """

    @autocasting
    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output, and weights or None.

        Parameters
        ----------
        query : tensor, shape (Tq, B, E), or (B, Tq, E) with ``batch_first``, or (Tq, E)
        key, value : tensor
            Likewise, of widths kdim and vdim.
        key_padding_mask : tensor, shape (B, Tk) or (Tk,), optional
            bool, True = padding; or floats that are added.
        need_weights : bool
        attn_mask : tensor, shape (Tq, Tk) or (B * num_heads, Tq, Tk), optional
            bool, True = may not attend; or floats that are added.
        average_attn_weights : bool
            Return the mean of the heads' weights, (B, Tq, Tk), in place of (B, num_heads, Tq, Tk).
        is_causal : bool
            `attn_mask` is the causal one, which is then not read; PyTorch needs it all the same.

        Returns
        -------
        output : tensor
            Of query's shape.
        weights : tensor or None
        """
        optional = {"key_padding_mask": key_padding_mask, "attn_mask": attn_mask}
        check_tensors(optional, query=query, key=key, value=value)
        alone = query.ndim == 2
        if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
            got = ", ".join(str(tuple(one.shape)) for one in (query, key, value))
            hint = "add the axis of samples by unsqueeze(0)."
            raise ShapeError(describe("query", "3 axes, as key and value, or 2 of one sample", f"shapes {got}", hint))
        if self.batch_first or alone:
            q, k, v = ((one.unsqueeze(0) if alone else one) for one in (query, key, value))
        else:
            q, k, v = (one.transpose(0, 1) for one in (query, key, value))
        q, k, v = self._projected(q, k, v)
        mask, bias = self._masks(q, k, alone, key_padding_mask, None if is_causal else attn_mask)
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (
                torch.cat([one, self._heads(wide(b)).expand(len(one), 1, -1, -1)], 1)
                for one, b in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            k, v = (nn.functional.pad(one, (0, 0, 0, 0, 0, 1)) for one in (k, v))
        more = k.shape[1] - (key.shape[-2] if self.batch_first or alone else key.shape[0])
        mask = None if mask is None else nn.functional.pad(mask, (0, more), value=True)
        bias = None if bias is None else nn.functional.pad(bias, (0, more))
        made = attention(
            *(one.transpose(1, 2) for one in (q, k, v)), mask=mask, bias=bias, causal="top_left" if is_causal else None,
            dropout=self.dropout if self.training else 0.0, return_weights=need_weights,
        )  # fmt: skip
        context, weights = (made.context, made.weights) if need_weights else (made, None)
        output = project(context.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        output, weights = narrowed(output, query), narrowed(weights, query)
        if alone:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return (output if self.batch_first else output.transpose(0, 1)), weights

    def _projected(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Return queries, keys and values, (B, T, H, width)."""
        if not self._qkv_same_embed_dim:
            weights: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif q is k is v:
            return apart(project(q, self.in_proj_weight, self.in_proj_bias), 3, self.num_heads, self.head_dim)
        else:
            weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return tuple(self._heads(project(*one)) for one in zip((q, k, v), weights, biases))

    def _heads(self, one: Tensor) -> Tensor:
        return one.unflatten(-1, (self.num_heads, self.head_dim))

    def _masks(
        self, q: Tensor, k: Tensor, alone: bool, padding: Tensor | None, attn_mask: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return what may be attended to, and what is added, of (B, H, Tq, Tk)."""
        mask = bias = None
        (batch, queries), keys = q.shape[:2], k.shape[1]
        if padding is not None:
            wanted = (keys,) if alone else (batch, keys)
            if padding.shape != wanted:
                hint = "it has one element for each key of a sample: (B, Tk), or (Tk,) of one sample."
                raise ShapeError(describe("key_padding_mask", f"shape {wanted}", f"shape {tuple(padding.shape)}", hint))
            padding = padding.reshape(-1, 1, 1, keys)
        if attn_mask is not None:
            both, each = (queries, keys), (batch * self.num_heads, queries, keys)
            if attn_mask.shape not in (both, each):
                hint = "it has one element for each query and key, of all samples or of each head of each sample."
                got = f"shape {tuple(attn_mask.shape)}"
                raise ShapeError(describe("attn_mask", f"shape {both} or {each}", got, hint))
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.reshape(-1, self.num_heads, *attn_mask.shape[1:])
        for one in (padding, attn_mask):
            if one is None:
                continue
            if one.dtype == torch.bool:
                mask = ~one if mask is None else mask & ~one
            else:
                bias = wide(one) if bias is None else bias + wide(one)
        return mask, bias


class _OverMemory(nn.Module):
    """Attention of queries over a memory by a score with parameters."""

    def _score(self, query: Tensor, memory: Tensor) -> tuple[Any, Tensor, Tensor]:
        """Return a score for `attention`, and what it takes in place of query and memory."""
        raise NotImplementedError

    @autocasting
    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        value: Tensor | None = None,
        *,
        key_lengths: Tensor | None = None,
        mask: Tensor | None = None,
        return_weights: bool = False,
    ) -> Any:
        """Return the context, or context and weights.

        Parameters
        ----------
        query : tensor, shape (B, Tq, Dq), or (B, Dq) of one step
        memory : tensor, shape (B, Tk, Dm)
        value : tensor, shape (B, Tk, Dv), optional
            What contexts are sums of, in place of the memory.
        key_lengths : int tensor, shape (B,), optional
            Positions of the memory from there on are padding.
        mask : bool tensor, shape (B, Tk) or (B, Tq, Tk), optional
            True = may attend.
        return_weights : bool

        Returns
        -------
        context : tensor, shape (B, Tq, Dv), or (B, Dv) of one step
        weights : tensor, shape (B, Tq, Tk), or (B, Tk) of one step
            With ``return_weights`` alone.
        """
        check_tensors({"value": value, "key_lengths": key_lengths, "mask": mask}, query=query, memory=memory)
        one = query.ndim == 2
        if query.ndim not in (2, 3) or memory.ndim != 3:
            got = f"shapes {tuple(query.shape)} and {tuple(memory.shape)}"
            hint = "add the axis of samples by unsqueeze(0)."
            raise ShapeError(describe("query", "(B, Tq, Dq) or (B, Dq), and memory (B, Tk, Dm)", got, hint))
        queries, memory = wide(query.unsqueeze(1) if one else query), wide(memory)
        if mask is not None and mask.ndim == 2:
            mask = mask.unsqueeze(1)
        score, q, k = self._score(queries, memory)
        made = attention(
            q, k, memory if value is None else wide(value), score=score, key_lengths=key_lengths, mask=mask,
            return_weights=return_weights,
        )  # fmt: skip
        context, weights = (made.context, made.weights) if return_weights else (made, None)
        context, weights = narrowed(self._finish(context, queries), query), narrowed(weights, query)
        if one:
            context, weights = context.squeeze(1), None if weights is None else weights.squeeze(1)
        return (context, weights) if return_weights else context

    def _finish(self, context: Tensor, queries: Tensor) -> Tensor:
        return context


class AdditiveAttention(_OverMemory):
    """``v . act(W_q q + W_k m + b)`` over a memory (Bahdanau, Cho, Bengio 2015, appendix A.1.2).

    Nothing of size (Tq, Tk, width) or, without weights, (Tq, Tk) is stored, forward or backward.

    Parameters
    ----------
    query_width, memory_width, width : int
        Dq, Dm, and the width between.
    activation : {"tanh", "sigmoid", "relu"}
    bias : bool
        Whether there is b.
    device, dtype
        As of any module.

    Attributes
    ----------
    query, key : nn.Linear
        W_q (width, Dq) and W_k (width, Dm); b is that of key.
    v : nn.Parameter, shape (width,)
    """

    def __init__(
        self, query_width: int, memory_width: int, width: int, *, activation: str = "tanh", bias: bool = False,
        device: Any = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        given: Any = {"device": device, "dtype": dtype}
        self.query = nn.Linear(query_width, width, bias=False, **given)
        self.key = nn.Linear(memory_width, width, bias=bias, **given)
        self.v = nn.Parameter(torch.empty(width, **given))
        self.activation = activation
        nn.init.uniform_(self.v, -(bound := math.sqrt(3 / max(width, 1))), bound)

    def _score(self, query: Tensor, memory: Tensor) -> tuple[Any, Tensor, Tensor]:
        score = {"name": "additive", "v": wide(self.v), "activation": self.activation}
        return score, project(query, self.query.weight), project(memory, self.key.weight, self.key.bias)

    def extra_repr(self) -> str:
        """Return the activation."""
        return f"activation={self.activation!r}"


class LuongAttention(_OverMemory):
    """Dot, general or concat attention over a memory (Luong, Pham, Manning 2015, sections 3 and 3.1).

    Parameters
    ----------
    query_width, memory_width : int
    score : {"general", "dot", "concat"}
        q W m, q . m, or v . tanh(W [q; m]).
    width : int, optional
        Of concat's layer; by default query_width.
    output_width : int, optional
        If given, what is returned is tanh(W_c [context; q]) of this width, the attentional vector (eq. 5).
    value_width : int, optional
        That of the context, where it is not memory_width.
    device, dtype
        As of any module.

    Attributes
    ----------
    score : str
    w : nn.Parameter
        Of general (Dq, Dm), of concat (Dq + Dm, width).
    v : nn.Parameter
        Of concat (width,).
    output : nn.Linear
        W_c, with ``output_width``.
    """

    def __init__(
        self, query_width: int, memory_width: int, *, score: str = "general", width: int | None = None,
        output_width: int | None = None, value_width: int | None = None, device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if score not in (names := ("general", "dot", "concat")):
            hint = did_you_mean(score, names, "pass 'general'.")
            raise ArgumentError(describe("score", f"one of {', '.join(names)}", repr(score), hint))
        self.score, given = score, {"device": device, "dtype": dtype}
        width = query_width if width is None else width
        if score != "dot":
            rows, columns = (query_width, memory_width) if score == "general" else (query_width + memory_width, width)
            self.w = nn.Parameter(torch.empty(rows, columns, **given))
            nn.init.uniform_(self.w, -(bound := math.sqrt(3 / max(rows, 1))), bound)
        if score == "concat":
            self.v = nn.Parameter(torch.empty(width, **given))
            nn.init.uniform_(self.v, -(bound := math.sqrt(3 / max(width, 1))), bound)
        self.output = None
        if output_width is not None:
            inputs = (memory_width if value_width is None else value_width) + query_width
            self.output = nn.Linear(inputs, output_width, bias=False, **given)

    def _score(self, query: Tensor, memory: Tensor) -> tuple[Any, Tensor, Tensor]:
        if self.score == "general":
            # The matrix acts on the query: one of many positions is not multiplied by it.
            return "dot", project(query, self.w.T), memory
        names = {"dot": (), "concat": ("w", "v")}[self.score]
        return {"name": self.score, **{name: wide(getattr(self, name)) for name in names}}, query, memory

    def _finish(self, context: Tensor, queries: Tensor) -> Tensor:
        if self.output is None:
            return context
        return torch.tanh(project(torch.cat([context, queries], -1), self.output.weight))

    def extra_repr(self) -> str:
        """Return the score."""
        return f"score={self.score!r}"
