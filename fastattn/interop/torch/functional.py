"""Attention as functions of tensors: `attention`, with what `fastattn.attention` takes, and PyTorch's own form."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.bias import CausalBias, CausalVariant

from fastattn import positions
from fastattn._numbers import check_flag, check_number
from fastattn.attention import AttentionOutput
from fastattn.attention.functions import as_mask, as_modifier, is_function
from fastattn.errors import ArgumentError, DTypeError, ShapeError, describe
from fastattn.interop.torch.eager import attend, plain
from fastattn.interop.torch.problem import Made, Operands, Problem
from fastattn.interop.torch.tensors import autocasting, check_tensors, wide
from fastattn.jit import Function
from fastattn.normalizers.base import Normalizer
from fastattn.scores.base import Score

__all__ = ["RelativeBias", "attention", "scaled_dot_product_attention"]


class RelativeBias(NamedTuple):
    """A bias of `attention` with equal numbers along each diagonal, of a tensor that is trained if it requires it.

    ::

        bias_ij = values[j - i + Tq - 1]            of head h: values[h, j - i + Tq - 1]

    As `fastattn.positions.RelativeBias`: neither the bias nor its gradient is made with (Tq, Tk) elements.

    Attributes
    ----------
    values : tensor, shape (Tq + Tk - 1,) or (H, Tq + Tk - 1)
        Of query's type, or float32 for queries of a half type; -inf masks.

    Examples
    --------
    ::

        rows = table[:, (torch.arange(2 * T - 1) - (T - 1)).clamp(-128, 128) + 128]  # of (H, 257) trained numbers
        context = attention(query, key, value, bias=RelativeBias(rows))
    """

    values: Tensor


@autocasting
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    score: str | Mapping[str, Any] | Score = "scaled_dot",
    score_mod: Any = None,
    normalizer: str | Mapping[str, Any] | Normalizer = "softmax",
    mask: Any = None,
    key_lengths: Tensor | None = None,
    causal: str | bool | None = None,
    window: tuple[int | None, int | None] | None = None,
    bias: Any = None,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: int | Tensor | None = None,
    return_weights: bool = False,
    return_lse: bool = False,
) -> Any:
    """Attend with tensors, with gradients of all that require them: `fastattn.attention` for PyTorch.

    Parameters
    ----------
    query : tensor, shape (..., Tq, Dk)
        float32 or float64 on the CPU, 2-D, 3-D (B, T, D) or 4-D (B, H, T, D), of any strides; read in place. Half types
        are computed with in float32, or bfloat16 on a matrix unit, and results but the lse are rounded once.
    key : tensor, shape (..., Tk, Dk)
        In 4-D its number of heads may divide query's.
    value : tensor, shape (..., Tk, Dv)
    score : str, mapping or Score
        A name of a score without parameters, or a mapping of the name and the parameters, of which those that are
        tensors are trained: ``{"name": "additive", "v": v, "w_query": w, "activation": "relu"}``. In place of the name
        a function may stand that makes a score of its parameters. An object of `fastattn.scores` is not trained.
    score_mod : function or mapping, optional
        A function of scores, as of `fastattn.score_mod`. Where its parameters are tensors, a mapping of it under
        ``"name"`` and them: ``{"name": softcap, "cap": cap}``; those of real numbers are trained. Functions of
        PyTorch's own, with the tensors that they captured, are for `flex_attention`.
    normalizer : str, mapping or Normalizer
        As a score: ``{"name": "entmax", "alpha": alpha}``.
    mask : bool tensor, broadcastable to (..., Tq, Tk), or function or mapping, optional
        True = may attend; or a function of places, as of `fastattn.mask_mod`, given as one of scores is.
    key_lengths : int tensor, shape (B,), optional
    causal, window, scale
        As in `fastattn.attention`.
    bias : tensor, broadcastable to (..., Tq, Tk), or RelativeBias, optional
        Added to the scores, of query's type or, for a half type, float32; its gradient is summed to its own shape in
        the kernel. The `RelativeBias` of here is trained, that of `fastattn.positions` not.
    dropout : float
        Probability with which a weight becomes 0; 1 makes contexts of 0, as in PyTorch.
    seed : int or int tensor of shape (B,), optional
        By default drawn from PyTorch's generator, so that ``torch.manual_seed`` decides it.
    return_weights, return_lse : bool
        Return an `AttentionOutput` with these fields; both have gradients.

    Returns
    -------
    tensor, shape (..., Tq, Dv), or AttentionOutput of tensors

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, UnsupportedError
        As from `fastattn.attention`; a tensor on another device is refused.
    """
    made, tensors = Made.of("score", score)
    made_normalizer, more = Made.of("normalizer", normalizer)
    tensors = (*tensors, *more)
    modifier = places = None
    if score_mod is not None:
        modifier, more = _function("score_mod", "score_mod", score_mod, as_modifier)
        tensors = (*tensors, *more)
    if not isinstance(mask, Tensor) and (isinstance(mask, Mapping) or is_function(mask)):
        places, more = _function("mask", "mask_mod", mask, as_mask)
        mask, tensors = None, (*tensors, *more)
    relative = isinstance(bias, (RelativeBias, positions.RelativeBias))
    if isinstance(bias, positions.RelativeBias):
        bias = torch.from_numpy(bias.values.copy())
    elif relative:
        bias = bias.values
    optional = {"bias": bias, "mask": mask, "key_lengths": key_lengths}
    check_tensors(optional, query=query, key=key, value=value)
    if relative:
        bias = wide(bias)
    rate = _rate("dropout", dropout)
    weights, lse = check_flag("return_weights", return_weights), check_flag("return_lse", return_lse)
    problem = Problem(made, made_normalizer, causal, window, scale, rate, weights, lse, modifier, places, relative)
    given = Operands(query, key, value, bias, mask, key_lengths, _seed(query, rate, seed), tensors)
    found: Any = _attend(problem, given)
    return AttentionOutput(*found) if weights or lse else found[0]


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute what ``torch.nn.functional.scaled_dot_product_attention`` does, with its arguments.

    Parameters
    ----------
    query : tensor, shape (..., Tq, Dk)
        float32, float64 or, computed with in float32, a half type, on the CPU, with any leading axes.
    key, value : tensor, shape (..., Tk, Dk) and (..., Tk, Dv)
        Leading axes broadcast.
    attn_mask : tensor, broadcastable to (..., Tq, Tk), optional
        bool, True = may attend; or of query's dtype, added to the scores, with a gradient of its own shape; or a
        ``torch.nn.attention.bias.CausalBias``.
    dropout_p : float
        Probability with which a weight becomes 0, by PyTorch's generator.
    is_causal : bool
        Query i reads keys up to i. A mask may be given as well.
    scale : float, optional
        Default 1 / sqrt(Dk).
    enable_gqa : bool
        The heads of key and value may be fewer than those of query, and divide their number.

    Returns
    -------
    tensor, shape (..., Tq, Dv)

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, UnsupportedError
        As from `attention`.

    Notes
    -----
    Nothing of size (Tq, Tk) is made, forward or backward, with a mask, with dropout, with a trained bias, and where
    value is wider than key. A row that may attend to nothing is 0, and what is masked is not read.
    """
    if torch.is_autocast_enabled("cpu"):
        return _under_autocast(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    if attn_mask is None and not dropout_p and scale is None:
        context = plain(query, key, value, is_causal)
        if context is not None:
            return context
    check_tensors({"attn_mask": attn_mask}, query=query, key=key, value=value)
    q, k, v = query.shape, key.shape, value.shape
    axes = len(q)
    if not (2 <= axes <= 4 and (q == k == v or (axes == len(k) == len(v) and q[:-2] == k[:-2] == v[:-2]))):
        return _any_axes(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    causal, bias, mask = _masks(query, attn_mask, "top_left" if is_causal else None)
    rate = _rate("dropout_p", dropout_p)
    problem = Problem(causal=causal, scale=scale, dropout=rate)
    given = Operands(query, key, value, bias, mask, None, _seed(query, rate, None), ())
    found: Any = _attend(problem, given)[0]
    return found


_under_autocast = autocasting(scaled_dot_product_attention)  # which costs the smallest calls more than this


def _attend(problem: Problem, given: Operands) -> tuple[Tensor | None, ...]:
    """Return context, weights or None, and lse or None; where all weights are dropped, contexts of 0."""
    if problem.dropout != 1:
        return attend(problem, given)
    context, *rest = attend(problem._replace(dropout=0.0), given._replace(seed=None))
    return None if context is None else context * 0, *rest


def _function(argument: str, kind: str, given: Any, convert: Callable[[Any], Any]) -> tuple[Made, tuple[Tensor, ...]]:
    """Return how a function of scores or of places is made, and of which tensors."""
    if not isinstance(given, Mapping):
        return Made(convert, (), ((argument, given),)), ()
    made, tensors = Made.of(argument, given)
    if not isinstance(made.maker, Function) or made.maker.kind != kind:
        hint = f"decorate it with fastattn.{kind}."
        raise DTypeError(describe(argument, f"a function of fastattn.{kind} as its name", repr(made.maker), hint))
    return made, tensors


def _rate(name: str, given: Any) -> float:
    """Return a probability of dropout, or raise."""
    rate, hint = check_number(name, given, "pass 0.0 for none."), "pass 0.0 for none."
    if not 0 <= rate <= 1:
        raise ArgumentError(describe(name, "a probability in [0, 1]", repr(given), hint))
    return rate


def _masks(query: Tensor, attn_mask: Any, causal: str | None) -> tuple[str | None, Tensor | None, Tensor | None]:
    """Return how a mask of PyTorch is causal, what it adds, and what it allows."""
    if isinstance(attn_mask, CausalBias):
        if causal is not None:
            hint = "leave is_causal out; the mask says how it is causal."
            raise ArgumentError(describe("is_causal", "False with a CausalBias", "True", hint))
        lower = attn_mask.variant == CausalVariant.LOWER_RIGHT
        return ("bottom_right" if lower else "top_left"), None, None
    if attn_mask is None or attn_mask.dtype == torch.bool:
        return causal, None, attn_mask
    if attn_mask.dtype != query.dtype:
        hint = "pass a bool tensor with True = may attend, or attn_mask.to(query.dtype) to add numbers to the scores."
        raise DTypeError(describe("attn_mask", f"torch.bool or {query.dtype}", attn_mask.dtype, hint))
    return causal, attn_mask, None


def _seed(query: Tensor, rate: float, seed: Any) -> Tensor | None:
    """Return a seed for each sample, where any is needed."""
    if not rate:
        return None
    if isinstance(seed, Tensor):
        return seed
    if seed is not None:
        try:
            return torch.tensor(seed - 2**64 if isinstance(seed, int) and 2**63 <= seed < 2**64 else seed)
        except (TypeError, ValueError, RuntimeError):
            hint = "an int gives every sample a mask of its own, a tensor fixes each sample's."
            raise DTypeError(describe("seed", "64 bits, or an int tensor of shape (B,)", repr(seed), hint)) from None
    return torch.randint(2**63 - 1, (query.shape[0] if query.ndim > 2 else 1,))


def _any_axes(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Any, dropout_p: float, is_causal: bool, scale: float | None,
    enable_gqa: bool,
) -> Tensor:  # fmt: skip
    """Attend where leading axes are to be broadcast, or are others than samples and heads."""
    for name, one in (("query", query), ("key", key), ("value", value)):
        if one.ndim < 2:
            hint = "add leading axes by unsqueeze."
            raise ShapeError(describe(name, "2 axes or more: (..., T, D)", f"shape {tuple(one.shape)}", hint))
    axes = max(one.ndim for one in (query, key, value))
    # Axes that are missing are of size 1, and what is shared is not copied.
    several = [one.reshape((1,) * (axes - one.ndim) + tuple(one.shape)) for one in (query, key, value)]
    heads = [one.shape[-3] if axes > 2 else 1 for one in several]
    most, grouped = max(heads), heads[1] == heads[2] and heads[0] == max(heads)
    if any(n not in (1, most) for n in heads) and not (enable_gqa and grouped):
        hint = "with enable_gqa=True the heads of query may be a multiple of those of key and value."
        raise ShapeError(describe("key", f"{heads[0]} heads, as query has", f"heads {heads[1:]}", hint))
    try:
        lead = torch.broadcast_shapes(*(one.shape[: max(axes - 3, 0)] for one in several))
    except RuntimeError:
        hint = "leading axes are matched from the last one; use size 1 where one does not vary."
        got = ", ".join(str(tuple(one.shape)) for one in (query, key, value))
        raise ShapeError(describe("key", "leading axes that broadcast", f"shapes {got}", hint)) from None
    if axes > 2:
        counts = heads if grouped else [most] * 3
        several = [one.expand(*lead, n, *one.shape[-2:]) for one, n in zip(several, counts)]
    causal, bias, mask = _masks(query, attn_mask, "top_left" if is_causal else None)
    shape = several[0].shape[:-1]
    if axes > 4:
        bias, mask = (_flat(one, lead, axes) for one in (bias, mask))
        several = [one.flatten(0, axes - 4) for one in several]
    elif axes == 3:
        several = [one.unsqueeze(0) for one in several]
    rate = _rate("dropout_p", dropout_p)
    problem = Problem(causal=causal, scale=scale, dropout=rate)
    query, key, value = several
    given = Operands(query, key, value, bias, mask, None, _seed(query, rate, None), ())
    made: Any = _attend(problem, given)[0]
    return made.reshape(*shape, made.shape[-1])


def _flat(one: Tensor | None, lead: torch.Size, axes: int) -> Tensor | None:
    """Return a mask or a bias for samples whose axes are joined."""
    if one is None or one.ndim <= 3:
        return one
    one = one.reshape((1,) * (axes - one.ndim) + tuple(one.shape))
    return one.expand(*lead, *one.shape[-3:]).flatten(0, len(lead) - 1)
