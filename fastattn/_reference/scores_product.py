"""Scores that are inner products: dot, scaled_dot, general, cosine, location."""

from __future__ import annotations

from typing import Any

import numpy as np

from .gemm import select_matmul, weight_gradient

Array = np.ndarray[Any, Any]


def _swap(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _norms(x: Array) -> tuple[Array, Array]:
    """Length of every row and its reciprocal, 0 for a zero row."""
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))
    return length, np.where(length == 0, 0.0, 1.0 / np.where(length == 0, 1.0, length))


def forward(spec: Any, query: Array, key: Array) -> Array:
    """Raw scores (B, H, Tq, Tk)."""
    with np.errstate(all="ignore"):
        if spec.name in ("dot", "scaled_dot"):
            return query @ _swap(key)
        if spec.name == "general":
            return (query @ spec.parameters["w"]) @ _swap(key)
        if spec.name == "cosine":
            return (query * _norms(query)[1]) @ _swap(key * _norms(key)[1])
        if spec.name == "location":
            return query @ spec.parameters["w"][:, : key.shape[-2]]
    raise ValueError(f"unknown score {spec.name!r}")


def backward(
    spec: Any, query: Array, key: Array, d_raw: Array, allowed: Array
) -> tuple[Array, Array, dict[str, Array]]:
    """Gradients of query, key and parameters."""
    with np.errstate(all="ignore"):
        if spec.name in ("dot", "scaled_dot"):
            return *_dot_backward(query, key, d_raw, allowed), {}
        if spec.name == "general":
            return _general_backward(spec.parameters["w"], query, key, d_raw, allowed)
        if spec.name == "cosine":
            return *_cosine_backward(query, key, d_raw, allowed), {}
        if spec.name == "location":
            return _location_backward(spec.parameters["w"], query, key, d_raw, allowed)
    raise ValueError(f"unknown score {spec.name!r}")


def _dot_backward(query: Array, key: Array, d_raw: Array, allowed: Array) -> tuple[Array, Array]:
    return select_matmul(d_raw, key, allowed), select_matmul(_swap(d_raw), query, _swap(allowed))


def _general_backward(
    w: Array, query: Array, key: Array, d_raw: Array, allowed: Array
) -> tuple[Array, Array, dict[str, Array]]:
    """s = (q w) . k: with u = sum_j ds_j k_j, dq = u w^T and dw = sum_i q_i u_i^T."""
    pulled, d_key = _dot_backward(query @ w, key, d_raw, allowed)
    return pulled @ w.T, d_key, {"w": weight_gradient(query, pulled)}


def _cosine_backward(query: Array, key: Array, d_raw: Array, allowed: Array) -> tuple[Array, Array]:
    """With n = x / |x|, ds/dq = (n_k - (n_q . n_k) n_q) / |q|, and the same for k; 0 for a zero vector."""
    q_inverse, k_inverse = _norms(query)[1], _norms(key)[1]
    q_unit, k_unit = query * q_inverse, key * k_inverse
    along = np.where(allowed, d_raw * (q_unit @ _swap(k_unit)), 0.0)
    toward_key, toward_query = _dot_backward(q_unit, k_unit, d_raw, allowed)
    d_query = (toward_key - along.sum(axis=-1)[..., None] * q_unit) * q_inverse
    d_key = (toward_query - along.sum(axis=-2)[..., None] * k_unit) * k_inverse
    return d_query, d_key


def _location_backward(
    w: Array, query: Array, key: Array, d_raw: Array, allowed: Array
) -> tuple[Array, Array, dict[str, Array]]:
    """s_j = q . w[:, j]; the key is not read."""
    used = w[:, : key.shape[-2]]
    d_scores = np.where(allowed, d_raw, 0.0)
    columns = np.broadcast_to(used.T, (*key.shape[:-1], w.shape[0]))
    d_query = select_matmul(d_raw, columns, allowed)
    d_w = np.zeros(w.shape)
    d_w[:, : key.shape[-2]] = weight_gradient(query, d_scores)
    return d_query, np.zeros(key.shape), {"w": d_w}
