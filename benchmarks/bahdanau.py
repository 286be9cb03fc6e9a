"""The encoder-decoder of Bahdanau et al. 2015 as a benchmark: inputs, and the float64 answer in plain NumPy.

A bidirectional GRU encoder; a GRU decoder with the reset gate after the product, which attends with its previous state
through an additive score as wide as the state; and one affine map of [state; context; embedding] to the vocabulary.
No sentence is padded, no dropout, no smoothing: the model as it is written down in a few lines.

The names and shapes of the parameters are those of fastattn; weights are (inputs, outputs), gates in the order r, z, n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .cases import TRAIN, Case

Arrays = dict[str, np.ndarray]

RATE, LIMIT, BETAS, EPSILON = 1e-3, 1.0, (0.9, 0.999), 1e-8  # of Adam, and of the norm of all gradients
BOS = 1
_DIRECTIONS = ("forward_layer", "backward_layer")
# Errors of float32 that has no fault, in units of eps times the largest element of an output, are below 15 here. With
# the gates of accuracy.py a value may be off by 2e-5 of the largest, and a gradient by 1e-4.
_UNITS = {"forward": 40.0, "gradient": 100.0}
# Adam turns rounding near 0 into whole steps, and PyTorch sums squares of millions of elements in float32.
_LOOSE = {"later": 4e-4 / 4 / np.finfo(np.float32).eps, "norm": 2e-3 / 4 / np.finfo(np.float32).eps}


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters by name."""
    V, E, H = (case.sizes[name] for name in ("V", "E", "H"))
    found: dict[str, tuple[int, ...]] = {"source_embedding.w": (V, E)}
    for side in _DIRECTIONS:
        cell = {"w_input": (E, 3 * H), "w_hidden": (H, 3 * H), "b_input": (3 * H,), "b_hidden": (3 * H,)}
        found |= {f"encoder.{side}.{name}": shape for name, shape in cell.items()}
    found |= {"bridge.w": (H, H), "bridge.b": (H,), "target_embedding.w": (V, E)}
    found |= {"mechanism.query.w": (H, H), "mechanism.key.w": (2 * H, H), "mechanism.v": (H,)}
    found |= {"from_target.w": (E, 3 * H), "from_target.b": (3 * H,), "from_context.w": (2 * H, 3 * H)}
    found |= {"cell.w_hidden": (H, 3 * H), "cell.b": (3 * H,), "projection.w": (3 * H + E, V), "projection.b": (V,)}
    return found


def inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """Parameters, with `source` (B, S) and `target` (B, T); for a greedy step the previous `state` (B, H)."""
    B, V, H = (case.sizes[name] for name in ("B", "V", "H"))
    data = {}
    for name, shape in shapes(case).items():
        fan = 1 if name.endswith("embedding.w") else shape[0] if len(shape) > 1 or name == "mechanism.v" else 100
        data[name] = rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan))
    data["source"] = rng.integers(4, V, (B, case.sizes["S"]))
    data["target"] = rng.integers(4, V, (B, case.sizes["T"]))
    if case.direction != TRAIN:
        data["state"] = np.tanh(rng.standard_normal((B, H), dtype=np.float32))
    return data


def reference(case: Case, data: Arrays) -> tuple[Arrays, Arrays]:
    """Right values by name, and for each the size of one unit of error before the factor ``eps``.

    A training step has ``loss``, ``norm``, ``d_<parameter>``, and ``later``, the loss after two steps of Adam; a greedy
    step has ``log_probs`` and ``state``.
    """
    exact = {name: data[name].astype(np.float64) for name in shapes(case)}
    if case.direction == TRAIN:
        loss, gradients = loss_and_gradients(exact, data["source"], data["target"])
        values = {"loss": np.array([loss]), "norm": np.array([norm(gradients)])}
        values |= {f"d_{name}": gradient for name, gradient in gradients.items()}
        values["later"] = np.array([_after_two_steps(exact, gradients, data)])
    else:
        values = _greedy_step(exact, data["source"], data["target"][:, 0], data["state"].astype(np.float64))
    sizes = {}
    for name, value in values.items():
        unit = _LOOSE.get(name, _UNITS["gradient" if name.startswith("d_") else "forward"])
        sizes[name] = np.full(value.shape, unit * np.abs(value).max())
    return values, sizes


def norm(gradients: Arrays) -> float:
    return float(np.sqrt(sum((gradient * gradient).sum() for gradient in gradients.values())))


def _after_two_steps(parameters: Arrays, gradients: Arrays, data: Arrays) -> float:
    m = {name: np.zeros_like(value) for name, value in parameters.items()}
    v = {name: np.zeros_like(value) for name, value in parameters.items()}
    for step in (1, 2):
        scale = min(1.0, LIMIT / norm(gradients))
        for name, gradient in gradients.items():
            m[name] = BETAS[0] * m[name] + (1 - BETAS[0]) * scale * gradient
            v[name] = BETAS[1] * v[name] + (1 - BETAS[1]) * (scale * gradient) ** 2
            size, spread = m[name] / (1 - BETAS[0] ** step), np.sqrt(v[name] / (1 - BETAS[1] ** step))
            parameters[name] = parameters[name] - RATE * size / (spread + EPSILON)
        loss, gradients = loss_and_gradients(parameters, data["source"], data["target"])
    return loss


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


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
    for number, side in enumerate(_DIRECTIONS):
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
    squashed = np.tanh((h @ p["mechanism.query.w"])[:, None] + states @ p["mechanism.key.w"])
    weights = _softmax(squashed @ p["mechanism.v"])
    context = (weights[:, None] @ states)[:, 0]
    x = y @ p["from_target.w"] + p["from_target.b"] + context @ p["from_context.w"]
    h, _ = _cell(x, h, p["cell.w_hidden"], p["cell.b"])
    features = np.concatenate([h, context, y], axis=1)
    return {"log_probs": np.log(_softmax(features @ p["projection.w"] + p["projection.b"])), "state": h}


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
        weights = _softmax(squashed @ p["mechanism.v"])
        context = (weights[:, None] @ states)[:, 0]
        x = y[:, t] @ p["from_target.w"] + p["from_target.b"] + context @ p["from_context.w"]
        h, back = _cell(x, h, p["cell.w_hidden"], p["cell.b"])
        features.append(np.concatenate([h, context, y[:, t]], axis=1))
        steps.append((before, squashed, weights, context, back))
    rows = np.stack(features, axis=1).reshape(B * T, -1)
    d = _softmax(rows @ p["projection.w"] + p["projection.b"])
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
        side = f"encoder.{_DIRECTIONS[number]}"
        d_gates, dh_of[number], d_w, d_b = back(dh_of[number] + d_states[:, t, number * H : (number + 1) * H])
        g[f"{side}.w_hidden"] += d_w
        g[f"{side}.b_hidden"] += d_b
        g[f"{side}.w_input"] += x[:, t].T @ d_gates
        g[f"{side}.b_input"] += d_gates.sum(axis=0)
        dx_all[:, t] += d_gates @ p[f"{side}.w_input"].T
    np.add.at(g["source_embedding.w"], source, dx_all)
    return loss, g
