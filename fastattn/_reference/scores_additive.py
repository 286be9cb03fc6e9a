"""Additive scores, v . act(q w_query + k w_key + b), and concat, which is the same with one stacked matrix."""

from typing import Any

import numpy as np

from .elementwise import sigmoid, tanh
from .gemm import weight_gradient
from .shapes import Array


def activate(name: str, x: Array) -> tuple[Array, Array]:
    """act(x) and its derivative."""
    if name == "tanh":
        y = tanh(x)
        return y, 1.0 - y * y
    if name == "sigmoid":
        y = sigmoid(x)
        return y, y * sigmoid(-x)
    if name == "relu":
        return np.where(x <= 0, 0.0, x), (x > 0).astype(np.float64)
    raise ValueError(f"unknown activation {name!r}")


def split_parameters(spec: Any, width: int) -> tuple[Array, Array | None, Array | None, Array | None]:
    """(v, w_query, w_key, b), the two matrices of concat being the two parts of its one."""
    p = spec.parameters
    if spec.name == "concat":
        return p["v"], p["w"][:width], p["w"][width:], None
    return p["v"], p.get("w_query"), p.get("w_key"), p.get("b")


def preactivation(spec: Any, query: Array, key: Array) -> Array:
    """q_i w_query + k_j w_key + b: (B, H, Tq, Tk, Da)."""
    _, w_query, w_key, b = split_parameters(spec, query.shape[-1])
    with np.errstate(all="ignore"):
        q = query if w_query is None else query @ w_query
        k = key if w_key is None else key @ w_key
        x = q[..., :, None, :] + k[..., None, :, :]
        return x if b is None else x + b


def forward(spec: Any, query: Array, key: Array) -> Array:
    """Raw scores (B, H, Tq, Tk)."""
    with np.errstate(all="ignore"):
        return activate(spec.activation, preactivation(spec, query, key))[0] @ spec.parameters["v"]


def backward(
    spec: Any, query: Array, key: Array, d_raw: Array, allowed: Array
) -> tuple[Array, Array, dict[str, Array]]:
    """Gradients of query, key and parameters: d_x_ijd = ds_ij v_d act'(x_ijd), then sums over what is shared."""
    v, w_query, w_key, b = split_parameters(spec, query.shape[-1])
    with np.errstate(all="ignore"):
        y, slope = activate(spec.activation, preactivation(spec, query, key))
        d_scores = np.where(allowed, d_raw, 0.0)[..., None]
        keep = allowed[..., None]
        d_v = np.where(keep, d_scores * y, 0.0).sum(axis=(0, 1, 2, 3))
        d_x = np.where(keep, d_scores * v * slope, 0.0)
        d_q, d_k = d_x.sum(axis=-2), d_x.sum(axis=-3)
        gradients = {"v": d_v}
        d_query = d_q if w_query is None else d_q @ w_query.T
        d_key = d_k if w_key is None else d_k @ w_key.T
        d_w_query = None if w_query is None else weight_gradient(query, d_q)
        d_w_key = None if w_key is None else weight_gradient(key, d_k)
        if spec.name == "concat":
            assert d_w_query is not None and d_w_key is not None
            gradients["w"] = np.concatenate([d_w_query, d_w_key])
        else:
            if d_w_query is not None:
                gradients["w_query"] = d_w_query
            if d_w_key is not None:
                gradients["w_key"] = d_w_key
            if b is not None:
                gradients["b"] = d_x.sum(axis=(0, 1, 2, 3))
    return d_query, d_key, gradients
