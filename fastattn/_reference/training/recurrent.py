"""Gated recurrent units and long short-term memory, sample by sample and step by step."""

from typing import Any

import numpy as np

from ..elementwise import sigmoid, tanh
from ..shapes import Array

Parameters = dict[str, Any]


def gru(parameters: Parameters, x: Any, h0: Any, lengths: Any, reset: str, reverse: bool) -> tuple[Array, Array]:
    """Outputs (B, T, H) and last states (B, H)."""
    y, last, _ = _walk(_gru_step, parameters, x, (h0,), lengths, reverse, reset)
    return y, last[0]


def gru_vjp(
    parameters: Parameters, x: Any, h0: Any, lengths: Any, reset: str, reverse: bool, dy: Any, dh_last: Any
) -> tuple[Array, Array, Parameters]:
    """Gradients of x, h0 and the parameters."""
    _, _, tapes = _walk(_gru_step, parameters, x, (h0,), lengths, reverse, reset)
    dx, first, gradients = _walk_back(_gru_step_vjp, parameters, tapes, dy, (dh_last,), np.shape(x), reset)
    return dx, first[0], gradients


def lstm(parameters: Parameters, x: Any, state: Any, lengths: Any, reverse: bool) -> tuple[Array, tuple[Array, Array]]:
    """Outputs (B, T, H) and last states (h, c)."""
    y, last, _ = _walk(_lstm_step, parameters, x, state, lengths, reverse, "")
    return y, (last[0], last[1])


def lstm_vjp(
    parameters: Parameters, x: Any, state: Any, lengths: Any, reverse: bool, dy: Any, d_state: Any
) -> tuple[Array, tuple[Array, Array], Parameters]:
    """Gradients of x, (h, c) and the parameters."""
    _, _, tapes = _walk(_lstm_step, parameters, x, state, lengths, reverse, "")
    dx, first, gradients = _walk_back(_lstm_step_vjp, parameters, tapes, dy, d_state, np.shape(x), "")
    return dx, (first[0], first[1]), gradients


def _float64(parameters: Parameters) -> Parameters:
    return {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}


def _walk(
    step: Any, parameters: Parameters, x: Any, state: Any, lengths: Any, reverse: bool, reset: str
) -> tuple[Array, list[Array], list[Any]]:
    """Run every sample over its own positions; the tape of a sample lists (position, what the step saved)."""
    x, p = np.asarray(x, dtype=np.float64), _float64(parameters)
    last = [np.array(part, dtype=np.float64) for part in state]
    y = np.zeros((*x.shape[:2], last[0].shape[1]))
    tapes = []
    for b, length in enumerate(np.full(len(x), x.shape[1]) if lengths is None else lengths):
        current = [part[b].copy() for part in last]
        tape = []
        for t in reversed(range(length)) if reverse else range(length):
            current, saved = step(p, x[b, t], current, reset)
            y[b, t] = current[0]
            tape.append((t, saved))
        for part, value in zip(last, current):
            part[b] = value
        tapes.append(tape)
    return y, last, tapes


def _walk_back(
    step_vjp: Any, parameters: Parameters, tapes: list[Any], dy: Any, d_state: Any, shape: Any, reset: str
) -> tuple[Array, list[Array], Parameters]:
    p, dy = _float64(parameters), np.asarray(dy, dtype=np.float64)
    gradients = {name: np.zeros_like(value) for name, value in p.items()}
    first = [np.array(part, dtype=np.float64) for part in d_state]
    dx = np.zeros(shape)
    for b, tape in enumerate(tapes):
        d = [part[b].copy() for part in first]
        for t, saved in reversed(tape):
            d[0] = d[0] + dy[b, t]
            dx[b, t], d, terms = step_vjp(p, saved, d, reset)
            for name, term in terms.items():
                gradients[name] += term
        for part, value in zip(first, d):
            part[b] = value
    return dx, first, gradients


def _gru_step(p: Parameters, x: Array, state: list[Array], reset: str) -> tuple[list[Array], Any]:
    (h,) = state
    wr, wz, wn = np.split(x @ p["w_input"] + p["b_input"], 3)
    ur, uz, un = np.split(p["w_hidden"], 3, axis=1)
    cr, cz, cn = np.split(p["b_hidden"], 3)
    r, z = sigmoid(wr + h @ ur + cr), sigmoid(wz + h @ uz + cz)
    n = tanh(wn + r * (h @ un + cn)) if reset == "after" else tanh(wn + (r * h) @ un + cn)
    return [(1 - z) * n + z * h], (x, h, r, z, n)


def _gru_step_vjp(p: Parameters, saved: Any, d: list[Array], reset: str) -> tuple[Array, list[Array], Parameters]:
    x, h, r, z, n = saved
    ur, uz, un = np.split(p["w_hidden"], 3, axis=1)
    (dh_next,) = d
    a_n = dh_next * (1 - z) * (1 - n * n)
    a_z = dh_next * (h - n) * z * (1 - z)
    dh = dh_next * z
    if reset == "after":
        d_r = a_n * (h @ un + np.split(p["b_hidden"], 3)[2])
        inside, seen = a_n * r, h
        dh = dh + un @ inside
    else:
        d_reset = un @ a_n
        d_r = d_reset * h
        inside, seen = a_n, r * h
        dh = dh + d_reset * r
    a_r = d_r * r * (1 - r)
    dh = dh + ur @ a_r + uz @ a_z
    a = np.concatenate([a_r, a_z, a_n])
    terms = {
        "w_input": np.outer(x, a),
        "b_input": a,
        "w_hidden": np.concatenate([np.outer(h, a_r), np.outer(h, a_z), np.outer(seen, inside)], axis=1),
        "b_hidden": np.concatenate([a_r, a_z, inside]),
    }
    return p["w_input"] @ a, [dh], terms


def _lstm_step(p: Parameters, x: Array, state: list[Array], reset: str) -> tuple[list[Array], Any]:
    h, c = state
    ai, af, ag, ao = np.split(x @ p["w_input"] + p["b"] + h @ p["w_hidden"], 4)
    i, f, g, o = sigmoid(ai), sigmoid(af), tanh(ag), sigmoid(ao)
    c_next = f * c + i * g
    return [o * tanh(c_next), c_next], (x, h, c, i, f, g, o, c_next)


def _lstm_step_vjp(p: Parameters, saved: Any, d: list[Array], reset: str) -> tuple[Array, list[Array], Parameters]:
    x, h, c, i, f, g, o, c_next = saved
    dh, dc = d
    t = tanh(c_next)
    dc = dc + dh * o * (1 - t * t)
    a = np.concatenate([dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g), dh * t * o * (1 - o)])
    terms = {"w_input": np.outer(x, a), "w_hidden": np.outer(h, a), "b": a}
    return p["w_input"] @ a, [p["w_hidden"] @ a, dc * f], terms
