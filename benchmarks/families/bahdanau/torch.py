"""The encoder-decoder of Bahdanau et al. 2015 as it is plainly written in PyTorch: modules, and a loop over time.

Weights are those of the case, transposed where PyTorch keeps (outputs, inputs). Compiled, Inductor gets the decoder's
step, or the whole decoder with its loop unrolled and the loss; the encoder is `torch.nn.GRU`, which it leaves as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ...case import TRAIN, Arrays, Case, Run
from ..training.torch import Training, collect
from .reference import BOS, RATE

__all__ = ["collect", "prepare", "prepare_compiled"]
PRECISIONS = ("float32", "bfloat16")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    """A training step with either of Adam's loops, or a greedy step."""
    if case.direction != TRAIN:
        return {"": Greedy(case, data, False)} if case.precision == "float32" else {}
    return {f"{loops} Adam": _training(case, data, loops) for loops in ("fused", "foreach")}


def prepare_compiled(case: Case, data: Arrays) -> dict[str, Run]:
    """Spellings of a training step, which differ in what is compiled, or a greedy step."""
    torch.compiler.reset()
    if case.direction != TRAIN:
        return {"compiled": Greedy(case, data, True)} if case.precision == "float32" else {}
    torch._dynamo.config.cache_size_limit = 64
    parts = {"step": "step", "decoder": "decode"}
    return {f"{name} compiled": _training(case, data, "fused", part) for name, part in parts.items()}


def _training(case: Case, data: Arrays, loops: str, compiled: str = "") -> Training:
    network = _network(case, data)
    source, target = torch.from_numpy(data["source"]), torch.from_numpy(data["target"])
    fed = torch.cat([torch.full((len(target), 1), BOS), target[:, :-1]], 1)
    if compiled:
        setattr(network, compiled, torch.compile(getattr(network, compiled), dynamic=False, fullgraph=True))

    def loss() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bfloat16"):
            states, keys, h = network.encode(source)
            return network.decode(fed, target, h, keys, states)

    return Training(
        list(network.parameters()), loss, lambda: load(network, data), lambda: gradients(network, data), RATE, loops
    )


def _network(case: Case, data: Arrays) -> Any:
    """The modules, with the weights of the case."""
    V, E, H = (case.sizes[name] for name in ("V", "E", "H"))

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.source_embedding = nn.Embedding(V, E)
            self.encoder = nn.GRU(E, H, batch_first=True, bidirectional=True)
            self.bridge = nn.Linear(H, H)
            self.target_embedding = nn.Embedding(V, E)
            self.query = nn.Linear(H, H, bias=False)
            self.key = nn.Linear(2 * H, H, bias=False)
            self.v = nn.Parameter(torch.zeros(H))
            self.cell = nn.GRUCell(E + 2 * H, H)
            self.projection = nn.Linear(3 * H + E, V)

        def encode(self, source: Any) -> Any:
            states, _ = self.encoder(self.source_embedding(source))
            return states, self.key(states), torch.tanh(self.bridge(states[:, 0, H:]))

        def step(self, y: Any, h: Any, keys: Any, states: Any) -> Any:
            scores = torch.tanh(self.query(h)[:, None] + keys) @ self.v
            context = torch.bmm(torch.softmax(scores, -1)[:, None], states)[:, 0]
            return self.cell(torch.cat([y, context], -1), h), context

        def decode(self, fed: Any, target: Any, h: Any, keys: Any, states: Any) -> Any:
            y, features = self.target_embedding(fed), []
            for t in range(fed.shape[1]):
                h, context = self.step(y[:, t], h, keys, states)
                features.append(torch.cat([h, context, y[:, t]], -1))
            logits = self.projection(torch.stack(features, 1))
            return functional.cross_entropy(logits.view(-1, V), target.reshape(-1))

        def greedy(self, tokens: Any, h: Any, keys: Any, states: Any) -> Any:
            y = self.target_embedding(tokens)
            h, context = self.step(y, h, keys, states)
            logits = self.projection(torch.cat([h, context, y], -1))
            return logits, h, logits.argmax(-1)

    network = Network()
    load(network, data)
    return network


# Where PyTorch's parameters come from: one of ours, transposed, or several one under the other.
_SOURCES = {
    "cell.weight_ih": ("from_target.w", "from_context.w"),
    "cell.weight_hh": ("cell.w_hidden",),
    "cell.bias_ih": ("from_target.b",),
    "cell.bias_hh": ("cell.b",),
    "query.weight": ("mechanism.query.w",),
    "key.weight": ("mechanism.key.w",),
    "v": ("mechanism.v",),
}


def _sources(name: str) -> tuple[str, ...]:
    if name in _SOURCES:
        return _SOURCES[name]
    layer, kind = name.split(".")
    if layer == "encoder":
        side = "backward_layer" if name.endswith("_reverse") else "forward_layer"
        part = {"weight_ih": "w_input", "weight_hh": "w_hidden", "bias_ih": "b_input", "bias_hh": "b_hidden"}
        return (f"encoder.{side}.{part[kind.split('_l0')[0]]}",)
    return (f"{layer}.{'w' if kind == 'weight' else 'b'}",)


def load(network: Any, data: Arrays) -> None:
    """Copy the weights of the case."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            array = np.concatenate([data[source] for source in _sources(name)])
            parameter.copy_(torch.from_numpy(array if "embedding" in name else array.T))


def gradients(network: Any, data: Arrays) -> Arrays:
    """Gradients by the names and in the layout of the case."""
    found = {}
    for name, parameter in network.named_parameters():
        array = parameter.grad.numpy()
        array, first = array if "embedding" in name else array.T, 0
        for source in _sources(name):
            rows = len(data[source])
            found[f"d_{source}"] = np.ascontiguousarray(array[first : first + rows])
            first += rows
    return found


class Greedy:
    """One step with argmax; keys were projected before."""

    def __init__(self, case: Case, data: Arrays, compiled: bool) -> None:
        network = _network(case, data)
        with torch.no_grad():
            self.states, self.keys, _ = network.encode(torch.from_numpy(data["source"]))
        self.tokens, self.h = torch.from_numpy(data["target"][:, 0].copy()), torch.from_numpy(data["state"].copy())
        self.step = torch.compile(network.greedy, dynamic=False, fullgraph=True) if compiled else network.greedy

    def __call__(self) -> Greedy:
        with torch.no_grad():
            self.logits, self.next, self.chosen = self.step(self.tokens, self.h, self.keys, self.states)
        return self

    def examine(self) -> Arrays:
        if not torch.equal(self.chosen, self.logits.argmax(-1)):
            raise AssertionError("the chosen tokens are not the best")
        return {"log_probs": torch.log_softmax(self.logits, -1).numpy(), "state": self.next.numpy()}
