"""The Transformer of fastattn as a contestant, through its public names only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from . import transformer
from .cases import TRAIN, Case
from .inputs import Arrays
from .peers.base import Run


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    """A training step, or a beam search."""
    return {"": Training(case, data) if case.direction == TRAIN else Search(case, data)}


def _build(case: Case, data: Arrays) -> Any:
    from fastattn.seq2seq import TransformerConfig, build

    V, D, heads, inner, layers = (case.sizes[name] for name in ("V", "D", "H", "F", "N"))
    config = TransformerConfig(
        width=D, heads=heads, inner=inner, encoder_layers=layers, decoder_layers=layers, bias=True, tied="all",
        dropout=0.0, label_smoothing=0.0,
    )  # fmt: skip
    model = build(config, V, V, seed=0)
    _load(model, data)
    return model


def _load(model: Any, data: Arrays) -> None:
    for name, parameter in model.parameters().items():
        parameter.assign(data[name])


class Training:
    """Loss, gradients, clipping and Adam; the call returns the contestant itself, for `examine`."""

    def __init__(self, case: Case, data: Arrays) -> None:
        self.model, self.data = _build(case, data), data
        source, target = data["source"], data["target"]
        lengths = [np.full(len(ids), ids.shape[1]) for ids in (source, target)]
        self.batch = SimpleNamespace(source=source, source_lengths=lengths[0], target=target, target_lengths=lengths[1])
        self.seeds = np.arange(len(source), dtype=np.uint64)
        self.parameters = self.model.parameters()
        del self.parameters["projection.b"]  # its gradient is computed and left alone: Marian does not learn it
        self._start()

    def _start(self) -> None:
        from fastattn.optim import Adam

        self.adam = Adam(self.parameters, rate=transformer.RATE, betas=transformer.BETAS, epsilon=transformer.EPSILON)

    def _gradients(self) -> float:
        loss, count, backward = self.model.loss_vjp(self.batch, seeds=self.seeds)
        backward(1 / count)
        return loss / count

    def __call__(self) -> Training:
        from fastattn.optim import clip_scale, global_norm

        self.loss = self._gradients()
        self.norm = global_norm(self.parameters)
        self.adam.step(scale=clip_scale(self.norm, transformer.LIMIT))
        return self

    def examine(self) -> Arrays:
        """From the start: loss, norm and gradients, and the loss after two steps."""
        _load(self.model, self.data)
        self._start()
        self._gradients()
        found = {f"d_{name}": parameter.gradient.copy() for name, parameter in self.parameters.items()}
        for parameter in self.parameters.values():
            parameter.gradient[...] = 0
        self()
        found |= {"loss": _one(self.loss), "norm": _one(self.norm)}
        self()()
        return found | {"later": _one(self.loss)}


class Search:
    """From source ids to the best sentence of each."""

    def __init__(self, case: Case, data: Arrays) -> None:
        self.model, self.source = _build(case, data), data["source"]
        self.lengths = np.full(len(self.source), self.source.shape[1])
        self.size, self.limit = case.sizes["K"], case.sizes["T"]

    def __call__(self) -> Search:
        from fastattn.seq2seq import beam_search

        self.found = beam_search(self.model, self.source, self.lengths, size=self.size, limit=self.limit)
        return self

    def examine(self) -> Arrays:
        tokens = np.stack([best.tokens for [best] in self.found])
        return {
            "tokens": tokens.astype(np.float32),
            "score": np.array([best.log_probability for [best] in self.found], np.float32),
        }


def _one(number: float) -> np.ndarray:
    return np.array([number], np.float32)
