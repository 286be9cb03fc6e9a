"""Scores that are inner products: dot, scaled_dot, general, cosine, location."""

from typing import Any

import numpy as np

from .gemm import select_matmul, weight_gradient
from .shapes import Array


def _swap(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _units(x: Array) -> tuple[Array, Array]:
    """Rows of length 1, and the lengths that they had; a zero row stays one, of length 1.

    Of x over its largest element, whose squares neither overflow nor vanish.
    """
    largest = np.abs(x).max(axis=-1, keepdims=True, initial=0)
    largest = np.where(largest == 0, 1.0, largest)
    length = np.sqrt(((x / largest) ** 2).sum(axis=-1, keepdims=True))
    length = np.where(length == 0, 1.0, length)
    return x / largest / length, largest * length


def forward(spec: Any, query: Array, key: Array) -> Array:
    """Raw scores (B, H, Tq, Tk)."""
    with np.errstate(all="ignore"):
        if spec.name in ("dot", "scaled_dot"):
            return query @ _swap(key)
        if spec.name == "general":
            return (query @ spec.parameters["w"]) @ _swap(key)
        if spec.name == "cosine":
            return _units(query)[0] @ _swap(_units(key)[0])
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
    (q_unit, q_length), (k_unit, k_length) = _units(query), _units(key)
    along = np.where(allowed, d_raw * (q_unit @ _swap(k_unit)), 0.0)
    toward_key, toward_query = _dot_backward(q_unit, k_unit, d_raw, allowed)
    d_query = (toward_key - along.sum(axis=-1)[..., None] * q_unit) / q_length * query.any(axis=-1, keepdims=True)
    d_key = (toward_query - along.sum(axis=-2)[..., None] * k_unit) / k_length * key.any(axis=-1, keepdims=True)
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
