"""The encoder-decoder of Bahdanau et al. 2015 as it is plainly written in PyTorch: modules, and a loop over time.

Weights are those of the case, transposed where PyTorch keeps (outputs, inputs). With ``compiled``, Inductor gets the
decoder's step, or the whole decoder with its loop unrolled and the loss; the encoder is `torch.nn.GRU`, which it
leaves as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import bahdanau
from ..cases import TRAIN, Case
from ..inputs import Arrays
from .base import Run


def prepare(case: Case, data: Arrays, compiled: bool) -> dict[str, Run]:
    """Spellings of a training step, which differ in what is compiled and in the loops of Adam, or of a greedy step."""
    import torch

    if case.direction != TRAIN:
        return {"compiled" if compiled else "": Greedy(case, data, compiled)}
    if not compiled:
        return {f"{adam} Adam": Training(case, data, adam, None) for adam in ("fused", "foreach")}
    torch._dynamo.config.cache_size_limit = 64
    return {f"{part} compiled": Training(case, data, "fused", part) for part in ("step", "decoder")}


def _network(case: Case, data: Arrays) -> Any:
    """The modules, with the weights of the case."""
    import torch
    from torch import nn
    from torch.nn import functional

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
    import torch

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


class Training:
    """Loss, gradients, clipping and Adam; the call returns the contestant itself, for `examine`."""

    def __init__(self, case: Case, data: Arrays, adam: str, compiled: str | None) -> None:
        import torch

        self.data, self.network, self.kind = data, _network(case, data), adam
        self.source, self.target = torch.from_numpy(data["source"]), torch.from_numpy(data["target"])
        bos = torch.full((len(self.target), 1), bahdanau.BOS)
        self.fed = torch.cat([bos, self.target[:, :-1]], 1)
        self.parameters = list(self.network.parameters())
        self.decode = self.network.decode
        if compiled == "step":
            self.network.step = torch.compile(self.network.step, dynamic=False, fullgraph=True)
        elif compiled == "decoder":
            self.decode = torch.compile(self.network.decode, dynamic=False, fullgraph=True)
        self._start()

    def _start(self) -> None:
        import torch

        options = {self.kind: True, "lr": bahdanau.RATE, "betas": bahdanau.BETAS, "eps": bahdanau.EPSILON}
        self.adam = torch.optim.Adam(self.parameters, **options)

    def _gradients(self) -> Any:
        self.adam.zero_grad(set_to_none=True)
        states, keys, h = self.network.encode(self.source)
        loss = self.decode(self.fed, self.target, h, keys, states)
        loss.backward()
        return loss

    def __call__(self) -> Training:
        import torch

        self.loss = self._gradients()
        self.norm = torch.nn.utils.clip_grad_norm_(self.parameters, bahdanau.LIMIT)
        self.adam.step()
        return self

    def examine(self) -> Arrays:
        """From the start: loss, norm and gradients, and the loss after two steps."""
        load(self.network, self.data)
        self._start()
        self._gradients()
        found = {name: array.copy() for name, array in gradients(self.network, self.data).items()}
        self()
        found |= {"loss": _one(self.loss), "norm": _one(self.norm)}
        self()()
        return found | {"later": _one(self.loss)}


class Greedy:
    """One step with argmax; keys were projected before."""

    def __init__(self, case: Case, data: Arrays, compiled: bool) -> None:
        import torch

        network = _network(case, data)
        with torch.no_grad():
            self.states, self.keys, _ = network.encode(torch.from_numpy(data["source"]))
        self.tokens, self.h = torch.from_numpy(data["target"][:, 0].copy()), torch.from_numpy(data["state"].copy())
        self.step = torch.compile(network.greedy, dynamic=False, fullgraph=True) if compiled else network.greedy

    def __call__(self) -> Greedy:
        import torch

        with torch.no_grad():
            self.logits, self.next, self.chosen = self.step(self.tokens, self.h, self.keys, self.states)
        return self

    def examine(self) -> Arrays:
        import torch

        if not torch.equal(self.chosen, self.logits.argmax(-1)):
            raise AssertionError("the chosen tokens are not the best")
        return {"log_probs": torch.log_softmax(self.logits, -1).numpy(), "state": self.next.numpy()}


def _one(number: Any) -> np.ndarray:
    return number.detach().reshape(1).numpy().copy()
