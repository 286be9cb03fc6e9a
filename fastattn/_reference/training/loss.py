"""Softmax cross-entropy with label smoothing, and its gradients."""

from typing import Any

import numpy as np

from ..shapes import Array


def log_softmax(logits: Any) -> Array:
    """x_v - log(sum_u exp(x_u)) over the last axis."""
    x = np.asarray(logits, dtype=np.float64)
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def _smoothed(targets: Array, vocabulary: int, smoothing: float) -> Array:
    q = np.full((len(targets), vocabulary), smoothing / vocabulary)
    q[np.arange(len(targets)), targets] += 1 - smoothing
    return q


def token_losses(x: Any, w: Any, b: Any, targets: Array, smoothing: float = 0.0, ignore: int = -1) -> Array:
    """-sum_v q_v log p_v of each row of x (M, K), with logits x w + b; 0 where the target is `ignore`."""
    x, w = np.asarray(x, dtype=np.float64), np.asarray(w, dtype=np.float64)
    losses, read = np.zeros(len(targets)), targets != ignore
    logits = x[read] @ w + (0.0 if b is None else np.asarray(b, dtype=np.float64))
    losses[read] = -(_smoothed(targets[read], w.shape[1], smoothing) * log_softmax(logits)).sum(axis=-1)
    return losses


def cross_entropy_vjp(
    x: Any, w: Any, b: Any, targets: Array, smoothing: float = 0.0, ignore: int = -1
) -> tuple[Array, Array, Array]:
    """Gradients (d_x, d_w, d_b) of the sum of `token_losses`."""
    x, w = np.asarray(x, dtype=np.float64), np.asarray(w, dtype=np.float64)
    read = targets != ignore
    logits = x[read] @ w + (0.0 if b is None else np.asarray(b, dtype=np.float64))
    d_logits = np.exp(log_softmax(logits)) - _smoothed(targets[read], w.shape[1], smoothing)
    dx = np.zeros_like(x)
    dx[read] = d_logits @ w.T
    return dx, x[read].T @ d_logits, d_logits.sum(axis=0)
