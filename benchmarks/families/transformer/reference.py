"""The Transformer in float64, in plain NumPy.

The slope of relu jumps at 0. A hidden value of size 1 is known to about 1e-6 after some layers, so that of the 16
million of the large case some 10 to 20 are on the other side of 0 than in float64, and each moves the gradients of
its position. One position of 640 has about 1 / sqrt(640) = 4 % of an element's gradient, and its hidden value a part
of that: elements are off by up to 0.7 % of the largest, for every library alike. Where there are so many, 3 % is the
limit for a gradient; the small case, which the same code computes, keeps 1e-4, and the norm its own limit.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ...case import TRAIN, Arrays, Case
from ...reference import Reference
from ..training.reference import EPS, judged, softmax, trained
from .inputs import BOS, fed, shapes

Back = Callable[..., Any]

RATE = 1e-4  # of Adam
_KINKS, _KINKED = 10**5, 3e-2 / 8 / EPS


def compute(case: Case, data: Arrays) -> Reference:
    """A training step; or of a search ``tokens`` and ``score``, the log-probability, of the best sentences."""
    exact = {name: data[name].astype(np.float64) for name in shapes(case)}
    if case.direction != TRAIN:
        return judged(_search(case, exact, data["source"]))
    positions = case.sizes["B"] * (case.sizes["S"] + case.sizes["T"])
    kinked = positions * case.sizes["N"] * case.sizes["F"] > _KINKS
    values = trained(exact, lambda p: loss_and_gradients(case, p, data), RATE)
    return judged(values, _KINKED if kinked else 100.0)


def sinusoids(count: int, width: int) -> np.ndarray:
    angles = np.arange(count)[:, None] / 10000 ** (2 * (np.arange(width) // 2) / width)
    return np.where(np.arange(width) % 2, np.cos(angles), np.sin(angles))


class _Network:
    """The model's parts; each returns its result and the function from that one's gradient, which adds to `g`."""

    def __init__(self, case: Case, p: Arrays) -> None:
        self.p, self.heads, self.layers = p, case.sizes["H"], case.sizes["N"]
        self.g = {name: np.zeros_like(value) for name, value in p.items() if name != "projection.b"}

    def linear(self, name: str, x: np.ndarray) -> tuple[np.ndarray, Back]:
        def back(dy: np.ndarray) -> np.ndarray:
            rows = dy.reshape(-1, dy.shape[-1])
            self.g[f"{name}.w"] += x.reshape(-1, x.shape[-1]).T @ rows
            self.g[f"{name}.b"] += rows.sum(axis=0)
            return dy @ self.p[f"{name}.w"].T

        return x @ self.p[f"{name}.w"] + self.p[f"{name}.b"], back

    def embed(self, ids: np.ndarray, first: int = 0) -> tuple[np.ndarray, Back]:
        width = len(self.p["projection.w"])

        def back(dy: np.ndarray) -> None:
            np.add.at(self.g["projection.w"].T, ids, dy * width**0.5)

        at = sinusoids(first + ids.shape[1], width)[first:]
        return self.p["projection.w"].T[ids] * width**0.5 + at, back

    def attend(self, query: np.ndarray, key: np.ndarray, value: np.ndarray, causal: bool) -> tuple[np.ndarray, Back]:
        def split(x: np.ndarray) -> np.ndarray:
            return x.reshape(*x.shape[:2], self.heads, -1).swapaxes(1, 2)

        def join(x: np.ndarray) -> np.ndarray:
            return x.swapaxes(1, 2).reshape(len(x), x.shape[2], -1)

        q, k, v = split(query), split(key), split(value)
        scale = q.shape[-1] ** -0.5
        scores = scale * q @ k.swapaxes(-1, -2)
        if causal:
            scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
        weights = softmax(scores)

        def back(dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            d = split(dy)
            d_weights = d @ v.swapaxes(-1, -2)
            d_scores = scale * weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))
            return join(d_scores @ k), join(d_scores.swapaxes(-1, -2) @ q), join(weights.swapaxes(-1, -2) @ d)

        return join(weights @ v), back

    def add_and_norm(self, name: str, x: np.ndarray) -> tuple[np.ndarray, Back]:
        x = x - x.mean(axis=-1, keepdims=True)
        inverse = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
        normal, gain = x * inverse, self.p[f"{name}.norm.gain"]

        def back(dy: np.ndarray) -> np.ndarray:
            self.g[f"{name}.norm.gain"] += (dy * normal).sum(axis=(0, 1))
            self.g[f"{name}.norm.offset"] += dy.sum(axis=(0, 1))
            d = dy * gain
            along = (d * normal).mean(axis=-1, keepdims=True)
            return (d - d.mean(axis=-1, keepdims=True) - normal * along) * inverse

        return normal * gain + self.p[f"{name}.norm.offset"], back

    def layer(
        self, name: str, x: np.ndarray, memory: np.ndarray | None, past: list[Any] | None = None
    ) -> tuple[np.ndarray, Back]:
        """One layer; with a memory, of the decoder. `past` has keys and values of earlier positions, and gets x's."""
        joined, project = self.linear(f"{name}.attention.project", x)
        query, key, value = np.split(joined, 3, axis=-1)
        causal = memory is not None
        if past is not None:
            before = past or [key[:, :0], value[:, :0]]
            key, value = (np.concatenate(both, axis=1) for both in zip(before, (key, value)))
            past[:], causal = [key, value], False
        context, attend = self.attend(query, key, value, causal)
        y, output = self.linear(f"{name}.attention.output", context)
        x, attended = self.add_and_norm(f"{name}.attended", x + y)
        parts: list[Back] = []
        if memory is not None:
            query, to_query = self.linear(f"{name}.cross.query", x)
            pair, to_memory = self.linear(f"{name}.cross.project", memory)
            context, look = self.attend(query, *np.split(pair, 2, axis=-1), causal=False)
            y, from_context = self.linear(f"{name}.cross.output", context)
            x, crossed = self.add_and_norm(f"{name}.crossed", x + y)
            parts = [crossed, from_context, look, to_query, to_memory]
        hidden, enter = self.linear(f"{name}.network.inner", x)
        y, leave = self.linear(f"{name}.network.outer", np.maximum(hidden, 0))
        x, fed_norm = self.add_and_norm(f"{name}.fed", x + y)

        def back(dx: np.ndarray) -> tuple[np.ndarray, Any]:
            dx, d_memory = fed_norm(dx), None
            dx = dx + enter(leave(dx) * (hidden > 0))
            if parts:
                crossed, from_context, look, to_query, to_memory = parts
                dx = crossed(dx)
                d_query, d_key, d_value = look(from_context(dx))
                d_memory = to_memory(np.concatenate([d_key, d_value], axis=-1))
                dx = dx + to_query(d_query)
            dx = attended(dx)
            return dx + project(np.concatenate(attend(output(dx)), axis=-1)), d_memory

        return x, back

    def encode(self, source: np.ndarray) -> tuple[np.ndarray, Back]:
        x, embedded = self.embed(source)
        backs = []
        for number in range(self.layers):
            x, back = self.layer(f"encoder.{number}", x, None)
            backs.append(back)

        def backward(dx: np.ndarray) -> None:
            for back in reversed(backs):
                dx, _ = back(dx)
            embedded(dx)

        return x, backward

    def logits(self, x: np.ndarray) -> np.ndarray:
        return x @ self.p["projection.w"] + self.p["projection.b"]


def loss_and_gradients(case: Case, p: Arrays, data: Arrays) -> tuple[float, Arrays]:
    """The mean of the losses of all target positions, and its gradients."""
    net, target = _Network(case, p), data["target"].reshape(-1)
    memory, encoded = net.encode(data["source"])
    x, embedded = net.embed(fed(data))
    backs = []
    for number in range(net.layers):
        x, back = net.layer(f"decoder.{number}", x, memory)
        backs.append(back)
    d = softmax(net.logits(x)).reshape(len(target), -1)
    at = np.arange(len(target)), target
    loss = float(-np.log(d[at]).mean())
    d[at] -= 1
    d /= len(target)
    net.g["projection.w"] += x.reshape(len(target), -1).T @ d
    dx, d_memory = (d @ p["projection.w"].T).reshape(x.shape), np.zeros_like(memory)
    for back in reversed(backs):
        dx, more = back(dx)
        d_memory += more
    embedded(dx)
    encoded(d_memory)
    return loss, net.g


def _search(case: Case, p: Arrays, source: np.ndarray) -> Arrays:
    """A beam of K, T tokens long; no sentence ends before."""
    net, B, K = _Network(case, p), len(source), case.sizes["K"]
    memory, _ = net.encode(source)
    pasts: list[list[Any]] = [[] for _ in range(net.layers)]
    tokens, totals = np.full((B, 1, 1), BOS), np.zeros((B, 1))
    for t in range(case.sizes["T"]):
        width = tokens.shape[1]
        x, _ = net.embed(tokens[:, :, -1:].reshape(B * width, 1), t)
        for number, past in enumerate(pasts):
            x, _ = net.layer(f"decoder.{number}", x, memory.repeat(width, axis=0), past)
        p_next = softmax(net.logits(x[:, 0])).reshape(B, width, -1)
        scores = (totals[:, :, None] + np.log(np.maximum(p_next, 1e-300))).reshape(B, -1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        totals = np.take_along_axis(scores, best, axis=1)
        rows, chosen = np.divmod(best, p_next.shape[-1])
        tokens = np.concatenate([tokens[np.arange(B)[:, None], rows], chosen[:, :, None]], axis=2)
        flat = (rows + np.arange(B)[:, None] * width).reshape(-1)
        for past in pasts:
            past[:] = [array[flat] for array in past]
    return {"tokens": tokens[:, 0, 1:].astype(np.float64), "score": totals[:, 0]}
