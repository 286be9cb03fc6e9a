"""The formulas of the mechanisms as the conformance kit has them, and what is compared.

Gradients are compared along a few random directions: the float64 reference is then a central difference of the plain
formula, and nobody's backward pass is taken on trust.
"""

from collections.abc import Callable

import numpy as np

from ...case import Arrays, Case
from ...reference import Reference
from .inputs import CHUNK, described, shapes

DIRECTIONS = 4
STEP = 1e-6


def contexts(case: Case, data: Arrays) -> np.ndarray:
    """The contexts (B, T, D)."""
    if case.options["mechanism"] in ("monotonic", "mocha"):  # their twin takes every walk by itself
        outside = np.arange(data["memory"].shape[1]) >= data["lengths"][:, None]
        state: Arrays = {}
        return np.stack([_monotonic(case, data, q, outside, state) for q in data["queries"].swapaxes(0, 1)], axis=1)
    from fastattn.testing.variant_subject import VariantProblem

    mechanism, width = described(case), case.sizes["D"]
    variant = mechanism.make(width, width, np.dtype(np.float64), 0)
    parameters = {name: data.get(name, np.zeros(x.value.shape)) for name, x in variant.parameters().items()}
    problem = VariantProblem(variant, data["queries"], data["memory"], data["lengths"], None, None)
    return np.asarray(mechanism.expected(problem, parameters)[0])


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Weights; zeros for a row of -inf."""
    largest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(largest), largest, 0))
    sums = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(sums == 0, 1, sums)


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
