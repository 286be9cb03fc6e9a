"""Decoder steps of attention mechanisms, one after the other: inputs, the formulas in NumPy, and what is compared.

Gradients are compared along a few random directions: the float64 reference is then a central difference of the plain
formula, and nobody's way back is taken on trust.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .cases import Case

Arrays = dict[str, np.ndarray]
DIRECTIONS = 4
STEP = 1e-6


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Parameters of a mechanism by their names in fastattn."""
    D, W = case.sizes["D"], case.sizes["W"]
    additive = {"query.w": (D, W), "key.w": (D, W), "v": (W,)}
    return {
        "bahdanau": additive,
        "location_sensitive": additive | {"u": (case.sizes["C"], W), "filters": (case.sizes["C"], case.sizes["K"])},
        "coverage": additive | {"u": (1, W)},
        "local_p": {"align.w": (D, D), "position.w": (D, D), "v_p": (D, 1)},
    }[case.mechanism]


def inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """Normal queries (B, T, D) and memory (B, S, D), lengths from two thirds of S up, and parameters."""
    B, S, T, D = (case.sizes[key] for key in "BSTD")
    data = {
        "queries": rng.standard_normal((B, T, D), dtype=np.float32),
        "memory": rng.standard_normal((B, S, D), dtype=np.float32),
    }
    for name, shape in shapes(case).items():
        spread = np.float32(shape[-1 if name == "filters" else 0] ** -0.5)
        data[name] = spread * rng.standard_normal(shape, dtype=np.float32)
    if case.backward:
        data["d_context"] = rng.standard_normal((B, T, D), dtype=np.float32)
    data["lengths"] = np.full(B, S)
    data["lengths"][1:] -= rng.integers(0, S // 3 + 1, B - 1)
    return data


def contexts(case: Case, data: Arrays) -> np.ndarray:
    """The contexts (B, T, D) in the dtype of data."""
    memory, lengths = data["memory"], data["lengths"]
    places = np.arange(memory.shape[1])
    outside = places >= lengths[:, None]
    weights = np.zeros(memory.shape[:2], memory.dtype)
    total, found = weights, []
    keys = memory @ (data["align.w"].T if case.mechanism == "local_p" else data["key.w"])
    for query in data["queries"].swapaxes(0, 1):
        factor: np.ndarray | float = 1.0
        if case.mechanism == "local_p":
            scores = (keys @ query[..., None])[..., 0]
            at = np.tanh(query @ data["position.w"]) @ data["v_p"]
            away = places - lengths[:, None] / (1 + np.exp(-at))
            scores = np.where(np.abs(away) > case.sizes["N"], -np.inf, scores)
            factor = np.exp(-2 * (away / case.sizes["N"]) ** 2)
        else:
            inner = (query @ data["query.w"])[:, None] + keys
            if case.mechanism == "coverage":
                inner = inner + total[..., None] * data["u"]
            if case.mechanism == "location_sensitive":
                half = data["filters"].shape[1] // 2
                padded = np.pad(weights, ((0, 0), (half, half)))
                windows = np.lib.stride_tricks.sliding_window_view(padded, data["filters"].shape[1], axis=1)
                inner = inner + windows @ data["filters"].T @ data["u"]
            scores = np.tanh(inner) @ data["v"]
        scores = np.where(outside, -np.inf, scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = weights / weights.sum(axis=-1, keepdims=True) * factor
        total = total + weights
        found.append((weights[:, None] @ memory)[:, 0])
    return np.stack(found, axis=1)


def differentiated(case: Case) -> list[str]:
    """Names of what has a gradient."""
    return ["queries", "memory", *shapes(case)]


def directions(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random directions (DIRECTIONS, *shape), the same for everyone."""
    return np.random.default_rng([ord(letter) for letter in name]).standard_normal((DIRECTIONS, *shape))


def examine(case: Case, context: np.ndarray, gradients: Arrays) -> Arrays:
    """What is compared: contexts, and gradients along the directions."""
    found = {"context": context}
    for name, gradient in gradients.items():
        along = directions(name, gradient.shape) * gradient.astype(np.float64)
        found[f"d_{name}"] = along.reshape(DIRECTIONS, -1).sum(axis=-1).astype(np.float32)
    return found


def reference(case: Case, data: Arrays) -> tuple[Arrays, Arrays]:
    """Values in float64 and their units of error: contexts may be off by 1e-5 of the largest, gradients by 1e-4."""
    exact = {name: array if name == "lengths" else array.astype(np.float64) for name, array in data.items()}
    values = {"context": contexts(case, exact)}
    if case.backward:
        for name in differentiated(case):
            values[f"d_{name}"] = np.array([
                _difference(lambda moved, name=name: _loss(case, {**exact, name: moved}), exact[name], direction)
                for direction in directions(name, exact[name].shape)
            ])  # fmt: skip
    return values, {
        name: np.full(value.shape, (100.0 if name.startswith("d_") else 20.0) * np.abs(value).max())
        for name, value in values.items()
    }


def _loss(case: Case, data: Arrays) -> float:
    return float((contexts(case, data) * data["d_context"]).sum())


def _difference(loss: Callable[[np.ndarray], float], at: np.ndarray, direction: np.ndarray) -> float:
    return (loss(at + STEP * direction) - loss(at - STEP * direction)) / (2 * STEP)
