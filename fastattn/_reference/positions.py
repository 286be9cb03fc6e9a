"""Positions in attention, written as in their papers, one pair of query and key after the other."""

import math
from typing import Any

import numpy as np

from .shapes import Array


def sinusoidal(position: int, width: int) -> Array:
    """Vaswani et al. 2017, section 3.5."""
    angles = [position / 10000 ** (2 * (c // 2) / width) for c in range(width)]
    return np.array([math.cos(a) if c % 2 else math.sin(a) for c, a in enumerate(angles)])


def sinusoidal_2d(row: int, column: int, width: int) -> Array:
    """Wang and Liu 2021, section 3.2, with the row's half first."""
    found = np.empty(width)
    for k in range(width // 2):
        angles = [place / 10000 ** (4 * (k // 2) / width) for place in (row, column)]
        found[[k, width // 2 + k]] = [math.cos(a) if k % 2 else math.sin(a) for a in angles]
    return found


def rotation(position: int, width: int, part: int | None, base: float, layout: str) -> Array:
    """The matrix of Su et al. 2021, equation 15, for columns x: R x."""
    n = width if part is None else part
    matrix = np.eye(width)
    for i in range(n // 2):
        a, b = (2 * i, 2 * i + 1) if layout == "interleaved" else (i, i + n // 2)
        angle = position * base ** (-2 * i / n)
        matrix[a, a] = matrix[b, b] = math.cos(angle)
        matrix[b, a] = math.sin(angle)
        matrix[a, b] = -matrix[b, a]
    return matrix


def rotated(x: Array, first: int = 0, part: int | None = None, base: float = 1e4, layout: str = "interleaved") -> Array:
    """x (..., T, d) at positions first, first + 1, ..."""
    rows = [x[..., t, :] @ rotation(first + t, x.shape[-1], part, base, layout).T for t in range(x.shape[-2])]
    return np.stack(rows, axis=-2) if rows else x


def slopes(heads: int) -> list[float]:
    """Press et al. 2022, section 3, and their function for numbers that are no power of 2."""
    if heads & (heads - 1) == 0:
        return [(2 ** (-8 / heads)) ** (i + 1) for i in range(heads)]
    below = 2 ** math.floor(math.log2(heads))
    return slopes(below) + slopes(2 * below)[0::2][: heads - below]


def bucket(apart: int, buckets: int = 32, farthest: int = 128, bidirectional: bool = True) -> int:
    """Raffel et al. 2020, section 2.1, as their code computes it; apart is key less query."""
    n, shift = -apart, 0
    if bidirectional:
        buckets //= 2
        if n < 0:
            n, shift = -n, buckets
    else:
        n = max(n, 0)
    exact = buckets // 2
    if n < exact:
        return shift + n
    large = exact + int(math.log(n / exact) / math.log(farthest / exact) * (buckets - exact) + 1e-12)
    return shift + min(large, buckets - 1)


def bias(name: str, p: dict[str, Array], heads: int, first: int, queries: int, keys: int, **settings: Any) -> Array:
    """What is added to scores, (H, Tq, Tk)."""
    added = np.zeros((heads, queries, keys))
    for h in range(heads):
        for i in range(queries):
            for j in range(keys):
                if name == "alibi":
                    added[h, i, j] = -slopes(heads)[h] * abs(first + i - j)
                elif name == "t5":
                    added[h, i, j] = p["positions.table"][bucket(j - first - i, **settings), h]
    return added


def added(name: str, p: dict[str, Array], x: Array, first: int) -> Array:
    """x (B, T, D) and what is added to it."""
    places = range(first, first + x.shape[1])
    if name == "sinusoidal":
        return x + np.array([sinusoidal(at, x.shape[2]) for at in places]).reshape(x.shape[1:])
    return x + p["positions.rows.w"][first : first + x.shape[1]] if name == "learned" else x


def seen(first: int, queries: int, keys: int, window: Any, sinks: int) -> Array:
    """Which keys each query may see, bool (Tq, Tk)."""
    near = np.ones((queries, keys), bool)
    for i in range(queries):
        for j in range(keys):
            left, right = window or (None, None)
            before, after = first + i - j, j - first - i
            near[i, j] = ((left is None or before <= left) and (right is None or after <= right)) or j < sinks
    return near


def content(p: dict[str, Array], query: Array, key: Array, weights: Any, first: int) -> tuple[Array, Array | None]:
    """Shaw et al. 2018, equations 4 and 3: products q_i . (k_j + a_K) (B, Tq, Tk), and sum_j weights_ij a_V."""
    clip = len(p["positions.key"]) // 2
    scores, sums = np.zeros((*query.shape[:2], key.shape[1])), np.zeros(query.shape)
    for i in range(query.shape[1]):
        for j in range(key.shape[1]):
            at = clip + max(-clip, min(clip, j - first - i))
            scores[:, i, j] = (query[:, i] * (key[:, j] + p["positions.key"][at])).sum(-1)
            if weights is not None and "positions.value" in p:
                sums[:, i] += weights[:, i, j, None] * p["positions.value"][at]
    return scores, None if weights is None else sums
