"""The encoder-decoder in float64, in plain NumPy."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ...case import TRAIN, Arrays, Case
from ...reference import Reference
from ..training.reference import judged, softmax, trained
from .inputs import DIRECTIONS, shapes

RATE = 1e-3  # of Adam
BOS = 1


def compute(case: Case, data: Arrays) -> Reference:
    """A training step; or of a greedy step ``log_probs`` and ``state``."""
    exact = {name: data[name].astype(np.float64) for name in shapes(case)}
    source, target = data["source"], data["target"]
    if case.direction == TRAIN:
        found = judged(trained(exact, lambda p: loss_and_gradients(p, source, target), RATE))
        return replace(found, steps=case.sizes["S"] + case.sizes["T"])
    return judged(_greedy_step(exact, source, target[:, 0], data["state"].astype(np.float64)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _cell(x: np.ndarray, h: np.ndarray, w: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Callable[..., Any]]:
    """h' from gates' parts x, and the function from its gradient to those of x, h, w and b."""
    H = h.shape[1]
    u = h @ w + b
    r, z = _sigmoid(x[:, :H] + u[:, :H]), _sigmoid(x[:, H : 2 * H] + u[:, H : 2 * H])
    n = np.tanh(x[:, 2 * H :] + r * u[:, 2 * H :])

    def backward(d: np.ndarray) -> tuple[np.ndarray, ...]:
        dn = d * (1 - z) * (1 - n * n)
        dx = np.concatenate([dn * u[:, 2 * H :] * r * (1 - r), d * (h - n) * z * (1 - z), dn], axis=1)
        du = np.concatenate([dx[:, : 2 * H], dn * r], axis=1)
        return dx, d * z + du @ w.T, h.T @ du, du.sum(axis=0)

    return n + z * (h - n), backward


def _encode(p: Arrays, source: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """States (B, S, 2 H), the decoder's first state, and the steps: (direction, position, backward)."""
    S, H = source.shape[1], p["mechanism.v"].shape[0]
    x, steps = p["source_embedding.w"][source], []
    states = np.empty((len(source), S, 2 * H))
    for number, side in enumerate(DIRECTIONS):
        w_input, w = p[f"encoder.{side}.w_input"], p[f"encoder.{side}.w_hidden"]
        b_input, b = p[f"encoder.{side}.b_input"], p[f"encoder.{side}.b_hidden"]
        h = np.zeros((len(source), H))
        for t in range(S) if number == 0 else reversed(range(S)):
            h, back = _cell(x[:, t] @ w_input + b_input, h, w, b)
            states[:, t, number * H : (number + 1) * H] = h
            steps.append((number, t, back))
    return states, np.tanh(states[:, 0, H:] @ p["bridge.w"] + p["bridge.b"]), steps


def _greedy_step(p: Arrays, source: np.ndarray, tokens: np.ndarray, h: np.ndarray) -> Arrays:
    states, _, _ = _encode(p, source)
    y = p["target_embedding.w"][tokens]
    weights = softmax(np.tanh((h @ p["mechanism.query.w"])[:, None] + states @ p["mechanism.key.w"]) @ p["mechanism.v"])
    context = (weights[:, None] @ states)[:, 0]
    x = y @ p["from_target.w"] + p["from_target.b"] + context @ p["from_context.w"]
    h, _ = _cell(x, h, p["cell.w_hidden"], p["cell.b"])
    features = np.concatenate([h, context, y], axis=1)
    return {"log_probs": np.log(softmax(features @ p["projection.w"] + p["projection.b"])), "state": h}


def loss_and_gradients(p: Arrays, source: np.ndarray, target: np.ndarray) -> tuple[float, Arrays]:
    """The mean of the losses of all target positions, and its gradients."""
    (B, T), H = target.shape, p["mechanism.v"].shape[0]
    g = {name: np.zeros_like(value) for name, value in p.items()}
    states, first, encoder_steps = _encode(p, source)
    fed = np.concatenate([np.full((B, 1), BOS), target[:, :-1]], axis=1)
    y = p["target_embedding.w"][fed]
    keys, h, steps, features = states @ p["mechanism.key.w"], first, [], []
    for t in range(T):
        before = h
        squashed = np.tanh((h @ p["mechanism.query.w"])[:, None] + keys)
        weights = softmax(squashed @ p["mechanism.v"])
        context = (weights[:, None] @ states)[:, 0]
        x = y[:, t] @ p["from_target.w"] + p["from_target.b"] + context @ p["from_context.w"]
        h, back = _cell(x, h, p["cell.w_hidden"], p["cell.b"])
        features.append(np.concatenate([h, context, y[:, t]], axis=1))
        steps.append((before, squashed, weights, context, back))
    rows = np.stack(features, axis=1).reshape(B * T, -1)
    d = softmax(rows @ p["projection.w"] + p["projection.b"])
    at = np.arange(B * T), target.reshape(-1)
    loss = float(-np.log(d[at]).mean())
    d[at] -= 1
    d /= B * T
    g["projection.w"], g["projection.b"] = rows.T @ d, d.sum(axis=0)
    d_features = (d @ p["projection.w"].T).reshape(B, T, -1)

    dh, d_states, d_keys, dy = np.zeros((B, H)), np.zeros_like(states), np.zeros_like(keys), np.empty_like(y)
    for t in reversed(range(T)):
        before, squashed, weights, context, back = steps[t]
        dx, dh, d_w, d_b = back(dh + d_features[:, t, :H])
        g["cell.w_hidden"] += d_w
        g["cell.b"] += d_b
        g["from_target.w"] += y[:, t].T @ dx
        g["from_target.b"] += dx.sum(axis=0)
        g["from_context.w"] += context.T @ dx
        dy[:, t] = d_features[:, t, 3 * H :] + dx @ p["from_target.w"].T
        d_context = d_features[:, t, H : 3 * H] + dx @ p["from_context.w"].T
        d_weights = (states @ d_context[:, :, None])[:, :, 0]
        d_scores = weights * (d_weights - (weights * d_weights).sum(axis=1, keepdims=True))
        d_states += weights[:, :, None] * d_context[:, None]
        g["mechanism.v"] += (squashed * d_scores[:, :, None]).sum(axis=(0, 1))
        d_sum = d_scores[:, :, None] * p["mechanism.v"] * (1 - squashed**2)
        d_keys += d_sum
        d_query = d_sum.sum(axis=1)
        g["mechanism.query.w"] += before.T @ d_query
        dh = dh + d_query @ p["mechanism.query.w"].T
    np.add.at(g["target_embedding.w"], fed, dy)

    g["mechanism.key.w"] = states.reshape(-1, 2 * H).T @ d_keys.reshape(-1, H)
    d_states += d_keys @ p["mechanism.key.w"].T
    d_bridge = dh * (1 - first * first)
    g["bridge.w"], g["bridge.b"] = states[:, 0, H:].T @ d_bridge, d_bridge.sum(axis=0)
    d_states[:, 0, H:] += d_bridge @ p["bridge.w"].T
    x, dx_all = p["source_embedding.w"][source], np.zeros((*source.shape, p["source_embedding.w"].shape[1]))
    dh_of = [np.zeros((B, H)), np.zeros((B, H))]
    for number, t, back in reversed(encoder_steps):
        side = f"encoder.{DIRECTIONS[number]}"
        d_gates, dh_of[number], d_w, d_b = back(dh_of[number] + d_states[:, t, number * H : (number + 1) * H])
        g[f"{side}.w_hidden"] += d_w
        g[f"{side}.b_hidden"] += d_b
        g[f"{side}.w_input"] += x[:, t].T @ d_gates
        g[f"{side}.b_input"] += d_gates.sum(axis=0)
        dx_all[:, t] += d_gates @ p[f"{side}.w_input"].T
    np.add.at(g["source_embedding.w"], source, dx_all)
    return loss, g
