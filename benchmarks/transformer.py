"""The Transformer of Vaswani et al. 2017 as a benchmark: inputs, and the float64 answer in plain NumPy.

Post-norm, biases everywhere, one matrix for both embeddings and the output, scaled embeddings with sinusoids, relu:
what Marian computes. No sentence is padded, no dropout, no smoothing.

The names and shapes of the parameters are those of fastattn; weights are (inputs, outputs). The begin token has the
embedding zero, since CTranslate2 starts from zeros. Special tokens, and the last one, which Marian pads with, have so
small a bias that they are never chosen: every search takes all its steps. The bias is not learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .cases import TRAIN, Case

Arrays = dict[str, np.ndarray]
Back = Callable[..., Any]

RATE, LIMIT, BETAS, EPSILON = 1e-4, 1.0, (0.9, 0.999), 1e-8  # of Adam, and of the norm of all gradients
BOS, EOS, SPECIAL = 1, 2, 4
NEVER = -1e4
# Errors of float32 that has no fault, in units of eps times the largest element of an output, are below 15 here. With
# the gates of accuracy.py a value may be off by 2e-5 of the largest, and a gradient by 1e-4. Adam turns rounding near 0
# into whole steps, and PyTorch sums squares of millions of elements in float32. Chosen tokens are right or wrong.
#
# The slope of relu jumps at 0. A hidden value of size 1 is known to about 1e-6 after some layers, so that of the 16
# million of the large case some 10 to 20 are on the other side of 0 than in float64, and each moves the gradients of
# its position. One position of 640 has about 1 / sqrt(640) = 4 % of an element's gradient, and its hidden value a part
# of that: elements are off by up to 0.7 % of the largest, for every library alike. Where there are so many, 3 % is the
# limit for a gradient; the small case, which the same code computes, keeps 1e-4, and the norm its own limit.
_EPS = float(np.finfo(np.float32).eps)
_KINKS, _KINKED = 10**5, 3e-2 / 8 / _EPS
_UNITS = {"forward": 40.0, "gradient": 100.0, "later": 4e-4 / 4 / _EPS, "norm": 2e-3 / 4 / _EPS, "tokens": 0.0}


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Shapes of all parameters by name."""
    V, D, inner, layers = (case.sizes[name] for name in ("V", "D", "F", "N"))
    found: dict[str, tuple[int, ...]] = {"projection.w": (D, V), "projection.b": (V,)}

    def linear(name: str, inputs: int, outputs: int) -> None:
        found[f"{name}.w"], found[f"{name}.b"] = (inputs, outputs), (outputs,)

    def norm(name: str) -> None:
        found[f"{name}.norm.gain"] = found[f"{name}.norm.offset"] = (D,)

    for stack in ("encoder", "decoder"):
        for layer in (f"{stack}.{number}" for number in range(layers)):
            linear(f"{layer}.attention.project", D, 3 * D)
            linear(f"{layer}.attention.output", D, D)
            norm(f"{layer}.attended")
            if stack == "decoder":
                linear(f"{layer}.cross.query", D, D)
                linear(f"{layer}.cross.project", D, 2 * D)
                linear(f"{layer}.cross.output", D, D)
                norm(f"{layer}.crossed")
            linear(f"{layer}.network.inner", D, inner)
            linear(f"{layer}.network.outer", inner, D)
            norm(f"{layer}.fed")
    return found


def inputs(case: Case, rng: np.random.Generator) -> Arrays:
    """Parameters, with `source` (B, S) and `target` (B, T)."""
    B, V, D = (case.sizes[name] for name in ("B", "V", "D"))
    data = {}
    for name, shape in shapes(case).items():
        fan = D if name == "projection.w" else shape[0] if len(shape) > 1 else 100
        data[name] = rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan))
        if name.endswith("gain"):
            data[name] += 1
    never = [*range(SPECIAL - 1), V - 1]
    data["projection.w"][:, BOS] = 0
    data["projection.b"][:] = 0
    data["projection.b"][never] = NEVER
    data["source"] = rng.integers(SPECIAL, V - 1, (B, case.sizes["S"]))
    data["target"] = rng.integers(SPECIAL, V - 1, (B, case.sizes["T"]))
    return data


def fed(data: Mapping[str, np.ndarray]) -> np.ndarray:
    """What a teacher-forced decoder is fed."""
    target = data["target"]
    return np.concatenate([np.full((len(target), 1), BOS), target[:, :-1]], axis=1)


def reference(case: Case, data: Arrays) -> tuple[Arrays, Arrays]:
    """Right values by name, and for each the size of one unit of error before the factor ``eps``.

    A training step has ``loss``, ``norm``, ``d_<parameter>``, and ``later``, the loss after two steps of Adam; a search
    has ``tokens`` and ``score``, the log-probability, of the best sentences.
    """
    exact = {name: data[name].astype(np.float64) for name in shapes(case)}
    if case.direction == TRAIN:
        loss, gradients = loss_and_gradients(case, exact, data)
        values = {"loss": np.array([loss]), "norm": np.array([norm(gradients)])}
        values |= {f"d_{name}": gradient for name, gradient in gradients.items()}
        values["later"] = np.array([_after_two_steps(case, exact, gradients, data)])
    else:
        values = _search(case, exact, data["source"])
    positions = case.sizes["B"] * (case.sizes["S"] + case.sizes["T"])
    kinked = positions * case.sizes["N"] * case.sizes["F"] > _KINKS
    sizes = {}
    for name, value in values.items():
        unit = _UNITS.get(name, _UNITS["gradient" if name.startswith("d_") else "forward"])
        if kinked and name.startswith("d_"):
            unit = _KINKED
        sizes[name] = np.full(value.shape, unit * np.abs(value).max())
    return values, sizes


def norm(gradients: Arrays) -> float:
    return float(np.sqrt(sum((gradient * gradient).sum() for gradient in gradients.values())))


def _after_two_steps(case: Case, parameters: Arrays, gradients: Arrays, data: Arrays) -> float:
    parameters = dict(parameters)
    m = {name: np.zeros_like(value) for name, value in gradients.items()}
    v = {name: np.zeros_like(value) for name, value in gradients.items()}
    loss = 0.0
    for step in (1, 2):
        scale = min(1.0, LIMIT / norm(gradients))
        for name, gradient in gradients.items():
            m[name] = BETAS[0] * m[name] + (1 - BETAS[0]) * scale * gradient
            v[name] = BETAS[1] * v[name] + (1 - BETAS[1]) * (scale * gradient) ** 2
            size, spread = m[name] / (1 - BETAS[0] ** step), np.sqrt(v[name] / (1 - BETAS[1] ** step))
            parameters[name] = parameters[name] - RATE * size / (spread + EPSILON)
        loss, gradients = loss_and_gradients(case, parameters, data)
    return loss


def sinusoids(count: int, width: int) -> np.ndarray:
    angles = np.arange(count)[:, None] / 10000 ** (2 * (np.arange(width) // 2) / width)
    return np.where(np.arange(width) % 2, np.cos(angles), np.sin(angles))


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


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
        weights = _softmax(scores)

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
    d = _softmax(net.logits(x)).reshape(len(target), -1)
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
        p_next = _softmax(net.logits(x[:, 0])).reshape(B, width, -1)
        scores = (totals[:, :, None] + np.log(np.maximum(p_next, 1e-300))).reshape(B, -1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        totals = np.take_along_axis(scores, best, axis=1)
        rows, chosen = np.divmod(best, p_next.shape[-1])
        tokens = np.concatenate([tokens[np.arange(B)[:, None], rows], chosen[:, :, None]], axis=2)
        flat = (rows + np.arange(B)[:, None] * width).reshape(-1)
        for past in pasts:
            past[:] = [array[flat] for array in past]
    return {"tokens": tokens[:, 0, 1:].astype(np.float64), "score": totals[:, 0]}
