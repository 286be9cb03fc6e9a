"""Attention and its gradients, step by step and in full size.

::

    s_ij = mod(cap(scale * raw(q_i, k_j)), b, h, i, j) + bias_ij,   cap(s) = c tanh(s / c) when a softcap c is given
    P_ij = exp(s_ij) / sum_k exp(s_ik) over the allowed keys,   lse_i = log sum_k exp(s_ik)
           or alpha-entmax of them, without an lse
    O_i  = sum_j P_ij M_ij v_j,   M_ij = 0 or 1 / (1 - p) for dropout
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .dropout import dropout_mask
from .entmax import entmax_score_vjp, entmax_weights
from .gemm import select_matmul
from .masking import allowed_keys
from .scores import ScoreSpec, default_scale, describe, raw_scores, raw_scores_vjp
from .shapes import Array, gather_heads, spread_heads, to_four, to_pairs, unbroadcast
from .softmax import softmax_and_lse


class Gradients(NamedTuple):
    """Gradients under the names of what they belong to; bias is None when there was none."""

    query: Array
    key: Array
    value: Array
    bias: Array | None
    score: dict[str, Array]
    normalizer: dict[str, Array] = {}  # noqa: RUF012 -- a NamedTuple has no default_factory


class Modifier(NamedTuple):
    """A function on scores, of arrays that broadcast to (B, H, Tq, Tk); a score of -inf is masked."""

    function: Callable[..., Array]  # (score, b, h, i, j) -> score
    derivative: Callable[..., tuple[Array, dict[str, Array]]]  # (score, b, h, i, j, d) -> d of score, and of parameters


@dataclass(frozen=True)
class Steps:
    """Everything of one forward run, in shape (B, H, ...), key and value spread over the query heads."""

    spec: ScoreSpec
    query: Array
    key: Array
    value: Array
    scale: float
    allowed: Array
    capped: Array
    weights: Array
    lse: Array
    kept: Array
    context: Array
    alpha: Any = None  # None: softmax
    modifier: Modifier | None = None


def run_forward(
    query: Any,
    key: Any,
    value: Any,
    *,
    score: Any = "scaled_dot",
    score_mod: Modifier | None = None,
    normalizer: Any = "softmax",
    mask: Any = None,
    key_lengths: Any = None,
    causal: Any = None,
    window: Any = None,
    bias: Any = None,
    scale: float | None = None,
    dropout: float = 0.0,
    seed: Any = None,
) -> Steps:
    """All intermediate arrays of attention."""
    alpha = alpha_of(normalizer)
    spec = describe(score)
    batch_shape, queries, keys = np.shape(query)[:-2], np.shape(query)[-2], np.shape(key)[-2]
    q = to_four(query)
    k, v = (spread_heads(to_four(x), q.shape[1]) for x in (key, value))
    shape = (q.shape[0], q.shape[1], queries, keys)
    if callable(mask):
        pair_mask: Array | None = np.broadcast_to(mask(*places(shape)), shape)
    else:
        pair_mask = None if mask is None else to_pairs(np.asarray(mask, bool), batch_shape, queries, keys)
    pair_bias = None if bias is None else to_pairs(np.asarray(bias, np.float64), batch_shape, queries, keys)
    allowed = allowed_keys(shape, mask=pair_mask, key_lengths=key_lengths, causal=causal, window=window, bias=pair_bias)
    q = np.where(allowed.any(axis=-1, keepdims=True), q, 0.0)
    k = np.where(allowed.swapaxes(-1, -2).any(axis=-1, keepdims=True), k, 0.0)
    factor = default_scale(spec, k.shape[-1]) if scale is None else float(scale)
    with np.errstate(all="ignore"):
        capped = raw_scores(spec, q, k) * factor
        if spec.softcap is not None:
            capped = spec.softcap * np.tanh(capped / spec.softcap)
        scores = capped
        if score_mod is not None:
            scores = np.broadcast_to(score_mod.function(capped, *places(shape)), shape)
            allowed = allowed & ~np.isneginf(scores)
        if pair_bias is not None:
            scores = scores + pair_bias
        if alpha is None:
            weights, lse = softmax_and_lse(scores, allowed)
        else:
            weights, lse = entmax_weights(scores, allowed, alpha), np.full(shape[:3], np.nan)
        kept = np.ones(shape)
        if dropout:
            kept = dropout_mask(seed, *shape, dropout) / (1.0 - dropout)
        context = select_matmul(weights * kept, v, allowed)
    return Steps(spec, q, k, v, factor, allowed, capped, weights, lse, kept, context, alpha, score_mod)


def places(shape: tuple[int, ...]) -> tuple[Array, ...]:
    """b, h, i and j of (B, H, Tq, Tk), which broadcast to it."""
    b, h, i, j = np.ogrid[tuple(map(slice, shape))]
    return b, h, i, j


def alpha_of(normalizer: Any) -> Any:
    """alpha of a normalizer, by name or an object with one: a number or one for each head; None for softmax."""
    name = normalizer if isinstance(normalizer, str) else normalizer.name
    fixed = {"softmax": None, "sparsemax": 2.0, "entmax15": 1.5}
    if name in fixed:
        return fixed[name]
    if name != "entmax":
        raise ValueError(f"no twin of the normalizer {name!r}")
    return 1.5 if isinstance(normalizer, str) else np.asarray(normalizer.alpha, np.float64)


def attention(query: Any, key: Any, value: Any, **options: Any) -> tuple[Array, Array, Array]:
    """(context, weights, lse) in the shapes of the library; options as in `run_forward`."""
    steps = run_forward(query, key, value, **options)
    batch_shape = np.shape(query)[:-2]
    return (
        steps.context.reshape(*batch_shape, *steps.context.shape[2:]),
        steps.weights.reshape(*batch_shape, *steps.weights.shape[2:]),
        steps.lse.reshape(*batch_shape, steps.lse.shape[2]),
    )


def attention_vjp(
    query: Any,
    key: Any,
    value: Any,
    *,
    d_context: Any = None,
    d_weights: Any = None,
    d_lse: Any = None,
    **options: Any,
) -> Gradients:
    """Gradients of sum(context d_context) + sum(weights d_weights) + sum(lse d_lse).

    dP_ij = M_ij dO_i . v_j + dW_ij;   dS_ij = P_ij (dP_ij - sum_k P_ik dP_ik + dlse_i)
    """
    run = run_forward(query, key, value, **options)
    pairs = run.allowed.shape
    d_out = np.zeros((*pairs[:3], run.value.shape[-1])) if d_context is None else to_four(d_context)
    allowed, swapped = run.allowed, run.allowed.swapaxes(-1, -2)
    with np.errstate(all="ignore"):
        d_value = select_matmul((run.weights * run.kept).swapaxes(-1, -2), d_out, swapped)
        d_weight = np.where(allowed, run.kept * (d_out @ run.value.swapaxes(-1, -2)), 0.0)
        if d_weights is not None:
            d_weight = d_weight + np.where(allowed, to_four(d_weights), 0.0)
        of_normalizer: dict[str, Array] = {}
        if run.alpha is None:
            d_row = -(run.weights * d_weight).sum(axis=-1)
            if d_lse is not None:
                d_row = d_row + np.asarray(d_lse, np.float64).reshape(pairs[:3])
            d_score = np.where(allowed, run.weights * (d_weight + d_row[..., None]), 0.0)
        else:
            d_score, d_alpha = entmax_score_vjp(run.weights, d_weight, run.alpha)
            of_normalizer["alpha"] = d_alpha.sum(axis=(0, 2) if np.ndim(run.alpha) else None)
        d_capped, of_modifier = d_score, dict[str, Array]()
        if run.modifier is not None:
            d_capped, of_modifier = run.modifier.derivative(run.capped, *places(pairs), d_score)
        d_raw = np.where(allowed, d_capped, 0.0) * run.scale
        if run.spec.softcap is not None:
            d_raw = d_raw * (1.0 - (run.capped / run.spec.softcap) ** 2)
        d_raw = np.where(allowed, d_raw, 0.0)
        d_query, d_key, parameters = raw_scores_vjp(run.spec, run.query, run.key, d_raw, allowed)
    key_heads = to_four(key).shape[1]
    bias = options.get("bias")
    d_bias = None
    if bias is not None:
        d_bias = unbroadcast(d_score.reshape(*np.shape(query)[:-2], *pairs[2:]), np.shape(bias))
    return Gradients(
        d_query.reshape(np.shape(query)),
        gather_heads(d_key, key_heads).reshape(np.shape(key)),
        gather_heads(d_value, key_heads).reshape(np.shape(value)),
        d_bias,
        {**parameters, **of_modifier},
        of_normalizer,
    )
