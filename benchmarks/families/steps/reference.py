"""The formulas of the mechanisms in NumPy, step by step, and what is compared.

Gradients are compared along a few random directions: the float64 reference is then a central difference of the plain
formula, and nobody's backward pass is taken on trust.
"""

from collections.abc import Callable

import numpy as np

from ...case import Arrays, Case
from ...reference import Reference
from .inputs import CHUNK, HEADS, shapes

DIRECTIONS = 4
STEP = 1e-6


def contexts(case: Case, data: Arrays) -> np.ndarray:
    """The contexts (B, T, D) in the dtype of data."""
    step = {"monotonic": _monotonic, "mocha": _monotonic, "multihead": _heads}.get(case.options["mechanism"], _soft)
    outside = np.arange(data["memory"].shape[1]) >= data["lengths"][:, None]
    state: Arrays = {}
    return np.stack([step(case, data, query, outside, state) for query in data["queries"].swapaxes(0, 1)], axis=1)


def _soft(case: Case, data: Arrays, query: np.ndarray, outside: np.ndarray, state: Arrays) -> np.ndarray:
    memory, none = data["memory"], np.zeros(outside.shape, query.dtype)
    scores, factor = _scores(case, data, query, state)
    weights = _softmax(np.where(outside, -np.inf, scores)) * factor
    state["weights"], state["total"] = weights, state.get("total", none) + weights
    return (weights[:, None] @ memory)[:, 0]


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Weights; zeros for a row of -inf."""
    largest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(largest), largest, 0))
    sums = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(sums == 0, 1, sums)


def _scores(case: Case, data: Arrays, query: np.ndarray, state: Arrays) -> tuple[np.ndarray, np.ndarray | float]:
    """Scores (B, S) of a step, and what its weights are multiplied by."""
    memory, mechanism = data["memory"], case.options["mechanism"]
    places = np.arange(memory.shape[1])
    none = np.zeros(memory.shape[:2], memory.dtype)
    if mechanism in ("general", "local_m", "local_p"):
        scores = (memory @ (query @ data["w" if mechanism == "general" else "align.w"])[..., None])[..., 0]
        if mechanism == "general":
            return scores, 1.0
        if mechanism == "local_m":
            at = state["at"] = state.get("at", -1) + 1
            return np.where(np.abs(places - at) > case.sizes["N"], -np.inf, scores), 1.0
        share = 1 / (1 + np.exp(-(np.tanh(query @ data["position.w"]) @ data["v_p"])))
        away = places - data["lengths"][:, None] * share
        scores = np.where(np.abs(away) > case.sizes["N"], -np.inf, scores)
        return scores, np.exp(-2 * (away / case.sizes["N"]) ** 2)
    if mechanism == "cosine":
        lengths = np.sqrt((query**2).sum(-1))[:, None] * np.sqrt((memory**2).sum(-1))
        return (memory @ query[..., None])[..., 0] / lengths, 1.0
    if mechanism == "l2":
        return -((query[:, None] - memory) ** 2).sum(axis=-1) / np.sqrt(memory.shape[-1]), 1.0
    if mechanism == "linear":
        of_query, of_memory, of_both = np.split(data["w"], 3)
        return (query @ of_query)[:, None] + memory @ of_memory + (memory @ (query * of_both)[..., None])[..., 0], 1.0
    inner = (query @ data["query.w"])[:, None] + memory @ data["key.w"]
    if mechanism == "coverage":
        inner = inner + state.get("total", none)[..., None] * data["u"]
    if mechanism == "location_sensitive":
        half = data["filters"].shape[1] // 2
        padded = np.pad(state.get("weights", none), ((0, 0), (half, half)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, data["filters"].shape[1], axis=1)
        inner = inner + windows @ data["filters"].T @ data["u"]
    return np.tanh(inner) @ data["v"], 1.0


def _monotonic(case: Case, data: Arrays, query: np.ndarray, outside: np.ndarray, state: Arrays) -> np.ndarray:
    memory, keys = data["memory"], outside.shape[1]
    v = data["align.g"] * data["align.v"] / np.sqrt((data["align.v"] ** 2).sum())
    energy = np.tanh((query @ data["align.query.w"])[:, None] + memory @ data["align.key.w"]) @ v + data["r"]
    stops = np.where(outside, 0, 1 / (1 + np.exp(-energy)))
    before = state.get("weights", np.eye(1, keys, dtype=query.dtype) * np.ones((len(query), 1), query.dtype))
    alignment, reached = np.zeros_like(stops), np.zeros(len(query), query.dtype)
    for j in range(keys):
        reached = reached + before[:, j]
        alignment[:, j] = stops[:, j] * reached
        reached = reached - alignment[:, j]
    state["weights"] = weights = alignment
    if case.options["mechanism"] == "mocha":
        inner = (query @ data["chunk_align.query.w"])[:, None] + memory @ data["chunk_align.key.w"]
        scores = np.where(outside, -np.inf, np.tanh(inner) @ data["chunk_align.v"])
        weights = np.zeros_like(alignment)
        for j in range(keys):
            chunk = slice(max(j - CHUNK + 1, 0), j + 1)
            weights[:, chunk] += alignment[:, j, None] * _softmax(scores[:, chunk])
    return (weights[:, None] @ memory)[:, 0]


def _heads(case: Case, data: Arrays, query: np.ndarray, outside: np.ndarray, state: Arrays) -> np.ndarray:
    if not state:
        state.update({name: _split(data["memory"] @ data[f"{name}.w"]) for name in ("key", "value")})
    asked = _split((query @ data["query.w"])[:, None])
    scores = asked @ state["key"].swapaxes(-1, -2) / np.sqrt(asked.shape[-1])
    weights = _softmax(np.where(outside[:, None, None], -np.inf, scores))
    return (weights @ state["value"]).reshape(query.shape) @ data["output.w"]


def _split(rows: np.ndarray) -> np.ndarray:
    """(B, S, D) to (B, heads, S, D / heads)."""
    return rows.reshape(*rows.shape[:2], HEADS, -1).swapaxes(1, 2)


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


def compute(case: Case, data: Arrays) -> Reference:
    """Values in float64 and their units of error: contexts may be off by 1e-5 of the largest, gradients by 1e-4."""
    exact = {name: array if name == "lengths" else array.astype(np.float64) for name, array in data.items()}
    values = {"context": contexts(case, exact)}
    if case.backward:
        for name in differentiated(case):
            values[f"d_{name}"] = np.array([
                _difference(lambda moved, name=name: _loss(case, {**exact, name: moved}), exact[name], direction)
                for direction in directions(name, exact[name].shape)
            ])  # fmt: skip
    return Reference(values, {
        name: np.full(value.shape, (100.0 if name.startswith("d_") else 20.0) * np.abs(value).max())
        for name, value in values.items()
    })  # fmt: skip


def _loss(case: Case, data: Arrays) -> float:
    return float((contexts(case, data) * data["d_context"]).sum())


def _difference(loss: Callable[[np.ndarray], float], at: np.ndarray, direction: np.ndarray) -> float:
    return (loss(at + STEP * direction) - loss(at - STEP * direction)) / (2 * STEP)
