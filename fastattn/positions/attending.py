"""Attention with positions: what the fused kernels do, and what a mechanism does around them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastattn._arrays import Array, float_axes, gradient_array
from fastattn._numbers import check_flag
from fastattn.attention import Gradients, Memory, attention_vjp
from fastattn.errors import ShapeError, describe
from fastattn.positions.base import Positions

__all__ = ["attend", "attend_vjp"]


def attend(
    memory: Memory, query: Array, positions: Positions, first: int, *, return_weights: bool = False, **options: Any
) -> tuple[Array, Array | None]:
    """Return contexts (B, H, Tq, d) and weights (B, H, Tq, Tk) or None, of queries at `first` that `turn` returned.

    Parameters
    ----------
    memory : Memory
        Its keys turned too, that of position 0 first.
    query : array, shape (B, H, Tq, d)
    positions : Positions
    first : int
    return_weights : bool
    **options
        Of `Memory.attend`.
    """
    query, keys = float_axes("query", query, "B, H, Tq, d"), memory.shape[-1]
    bias: Any = positions.bias(first, query.shape[2], keys)
    if positions.content:
        bias = positions.scores(query, first, keys) * query.dtype.type(1 / math.sqrt(query.shape[-1]))
    return_weights = check_flag("return_weights", return_weights)
    found: Any = memory.attend(query, bias=bias, return_weights=return_weights or positions.content, **options)
    if not positions.content:
        return (found.context, found.weights) if return_weights else (found, None)
    context = _with_sums(found.context, positions.sums(found.weights, first))
    return context, found.weights if return_weights else None


def attend_vjp(
    query: Array, key: Array, value: Array, positions: Positions, first: int, *, return_weights: bool = False,
    **options: Any,
) -> tuple[Array, Array | None, Callable[..., Gradients]]:  # fmt: skip
    """Return contexts and weights, and the function from their gradients to those of query, key and value.

    Parameters
    ----------
    query, key, value : array, shape (B, H, T, d)
        The first two as `turn` returned them.
    positions : Positions
        ``backward(d_context, d_weights=None, *, gather=True)`` adds to the gradients of its parameters, if it gathers.
    first : int
    return_weights : bool
    **options
        Of `fastattn.attention`.
    """
    query, key = float_axes("query", query, "B, H, Tq, d"), float_axes("key", key, "B, H, Tk, d")
    queries, keys, return_weights = query.shape[2], key.shape[2], check_flag("return_weights", return_weights)
    found: Any
    if not positions.content:
        bias = positions.bias(first, queries, keys)
        found, back = attention_vjp(query, key, value, bias=bias, return_weights=return_weights, **options)

        def backward(d_context: Array, d_weights: Array | None = None, *, gather: bool = True) -> Gradients:
            gradients = back(d_context, d_weights=d_weights)
            if gradients.bias is not None and gather:
                positions.bias_vjp(gradients.bias, first, queries, keys)
            return gradients

        return (found.context, found.weights, backward) if return_weights else (found, None, backward)

    scale = query.dtype.type(1 / math.sqrt(query.shape[-1]))
    scores = positions.scores(query, first, keys) * scale
    found, back = attention_vjp(query, key, value, bias=scores, return_weights=True, **options)
    weights = found.weights
    context = _with_sums(found.context, positions.sums(weights, first))

    def content_backward(d_context: Array, d_weights: Array | None = None, *, gather: bool = True) -> Gradients:
        d_context = gradient_array("d_context", d_context, context.shape, context.dtype)
        own = positions.sums_vjp(d_context, first, keys, weights if gather else None)
        given = own if d_weights is None else d_weights if own is None else d_weights + own
        gradients = back(d_context, d_weights=given)
        d_query = positions.scores_vjp(gradients.bias * scale, first, query if gather else None)
        return gradients._replace(query=gradients.query + d_query)

    return np.ascontiguousarray(context), weights if return_weights else None, content_backward


def _with_sums(context: Array, sums: Array | None) -> Array:
    """Return contexts with sums of the positions' own values, or raise if values are of another width."""
    if sums is None:
        return context
    if sums.shape != context.shape:
        expected = f"width {sums.shape[-1]}, that of the positions' own values"
        hint = "project the values to the width of the positions."
        raise ShapeError(describe("value", expected, f"width {context.shape[-1]}", hint))
    return context + sums
