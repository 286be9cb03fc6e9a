"""GRU and LSTM over sequences in plain NumPy, with gradients, in the dtype of the inputs."""

from typing import Any

import numpy as np

from ...case import Arrays, Case, Run


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    return {"": lambda: layer(case.options["layer"], data)}


def collect(case: Case, result: Arrays) -> Arrays:
    return result


def layer(kind: str, data: Arrays) -> Arrays:
    """y and, when data has ``d_y``, the gradient of every other input, by name."""
    x, w_input = data["x"], data["w_input"]
    products = x @ w_input + data["b" if kind == "lstm" else "b_input"]
    states = [np.zeros((len(x), w_input.shape[1] // _gates(kind)), x.dtype)] * (2 if kind == "lstm" else 1)
    y, tape = [], []
    for t in range(x.shape[1]):
        step = _lstm if kind == "lstm" else _gru
        states, saved = step(products[:, t], states, data)
        y.append(states[0])
        tape.append(saved)
    outputs = {"y": np.stack(y, axis=1)}
    return outputs if "d_y" not in data else outputs | _back(kind, data, tape)


def _gates(kind: str) -> int:
    return 4 if kind == "lstm" else 3


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _gru(product: np.ndarray, states: list[np.ndarray], data: Arrays) -> Any:
    (h,) = states
    a, u = np.split(product, 3, axis=1), np.split(h @ data["w_hidden"] + data["b_hidden"], 3, axis=1)
    r, z = _sigmoid(a[0] + u[0]), _sigmoid(a[1] + u[1])
    n = np.tanh(a[2] + r * u[2])
    return [(1 - z) * n + z * h], (h, r, z, n, u[2])


def _lstm(product: np.ndarray, states: list[np.ndarray], data: Arrays) -> Any:
    h, c = states
    a = np.split(product + h @ data["w_hidden"], 4, axis=1)
    i, f, g, o = _sigmoid(a[0]), _sigmoid(a[1]), np.tanh(a[2]), _sigmoid(a[3])
    memory = f * c + i * g
    return [o * np.tanh(memory), memory], (h, c, i, f, g, o, memory)


def _back(kind: str, data: Arrays, tape: list[Any]) -> Arrays:
    w, d_y = data["w_hidden"], data["d_y"]
    dh = np.zeros_like(d_y[:, 0])
    dc = np.zeros_like(dh)
    inner, outer = [], []  # gradients at the products with h and with x
    for t in reversed(range(d_y.shape[1])):
        d = dh + d_y[:, t]
        if kind == "lstm":
            _, c, i, f, g, o, memory = tape[t]
            curved = np.tanh(memory)
            dc = dc + d * o * (1 - curved * curved)
            parts = dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), d * curved * o * (1 - o)
            outer.append(np.concatenate(parts, axis=1))
            inner.append(outer[-1])
            dh, dc = inner[-1] @ w.T, dc * f
        else:
            h, r, z, n, u = tape[t]
            dn, dz = d * (1 - z) * (1 - n * n), d * (h - n) * z * (1 - z)
            dr = dn * u * r * (1 - r)
            outer.append(np.concatenate([dr, dz, dn], axis=1))
            inner.append(np.concatenate([dr, dz, dn * r], axis=1))
            dh = d * z + inner[-1] @ w.T
    rows, inside = np.stack(outer[::-1], axis=1), np.stack(inner[::-1], axis=1).reshape(-1, w.shape[1])
    flat, before = rows.reshape(-1, w.shape[1]), np.stack([saved[0] for saved in tape], axis=1)
    gradients = {
        "d_x": rows @ data["w_input"].T,
        "d_w_input": data["x"].reshape(len(flat), -1).T @ flat,
        "d_w_hidden": before.reshape(len(flat), -1).T @ inside,
    }
    if kind == "lstm":
        return gradients | {"d_b": flat.sum(axis=0)}
    return gradients | {"d_b_input": flat.sum(axis=0), "d_b_hidden": inside.sum(axis=0)}
