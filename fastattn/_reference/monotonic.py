"""Monotonic attention by what it means: every way of walking over the memory, with its probability.

Twins as those of `variants`: parameters by name, queries (B, T, Dq), memory (B, S, Dm), what is summed (B, S, Dv) and
what may be read (B, S).
"""

from typing import Any

import numpy as np

from .elementwise import sigmoid
from .shapes import Array


def energies(p: dict[str, Array], name: str, queries: Array, memory: Array) -> Array:
    """``g v / |v| . tanh(q W + m V + b)``, or without g ``v . tanh(...)``: (B, T, S)."""
    v = p[f"{name}.v"]
    if f"{name}.g" in p:
        v = p[f"{name}.g"] * v / np.sqrt((v * v).sum())
    keys = memory @ p[f"{name}.key.w"] + p[f"{name}.key.b"]
    return np.tanh((queries @ p[f"{name}.query.w"])[:, :, None] + keys[:, None]) @ v


def expected(stop: Array, previous: Array) -> Array:
    """Raffel et al. 2017, equation 9: alpha (S,) from the probabilities of stopping and the alignment before."""
    keys = len(stop)
    alpha = np.zeros(keys)
    for j in range(keys):
        for k in range(j + 1):
            alpha[j] += previous[k] * np.prod(1 - stop[k:j]) * stop[j]
    return alpha


def chunked(alpha: Array, u: Array, allowed: Array, chunk: int) -> Array:
    """Chiu and Raffel 2018, equation 13: a softmax over the `chunk` positions up to each."""
    weights = np.zeros(len(alpha))
    for k in range(len(alpha)):
        inside = np.arange(max(0, k - chunk + 1), k + 1)
        inside = inside[allowed[inside]]
        if len(inside):
            e = np.exp(u[inside] - u[inside].max())
            weights[inside] += alpha[k] * e / e.sum()
    return weights


def monotonic(
    p: dict[str, Array],
    queries: Any,
    memory: Any,
    values: Any,
    allowed: Array,
    *,
    chunk: int = 0,
    hard: bool = False,
    noise: Any = 0.0,
    **sizes: Any,
) -> tuple[Array, Array]:
    """Raffel et al. 2017 and, with a chunk, Chiu and Raffel 2018; `hard` is section 2.2, `noise` (B, T, S)."""
    q = np.asarray(queries, np.float64)
    m, v = (np.where(allowed[..., None], np.asarray(x, np.float64), 0.0) for x in (memory, values))
    stop = np.where(allowed[:, None], sigmoid(energies(p, "align", q, m) + p["r"] + noise), 0.0)
    u = energies(p, "chunk_align", q, m) if chunk else np.zeros(stop.shape)
    weights = np.zeros(stop.shape)
    for b in range(len(q)):
        alpha = np.zeros(m.shape[1])
        alpha[:1] = 1
        position = 0
        for t in range(q.shape[1]):
            if hard:
                while position < len(alpha) and stop[b, t, position] <= 0.5:
                    position += 1
                alpha = (np.arange(len(alpha)) == position).astype(float)
            else:
                alpha = expected(stop[b, t], alpha)
            weights[b, t] = chunked(alpha, u[b, t], allowed[b], chunk) if chunk else alpha
    return np.einsum("bts,bsd->btd", weights, v), weights


def mocha(*arguments: Any, chunk: int = 2, **options: Any) -> tuple[Array, Array]:
    """Chiu and Raffel 2018."""
    return monotonic(*arguments, chunk=chunk, **options)
