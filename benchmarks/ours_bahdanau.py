"""The Bahdanau model of fastattn as a contestant, through its public names only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from . import bahdanau
from .cases import TRAIN, Case
from .inputs import Arrays
from .peers.base import Run


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    """A training step, or a greedy step with the memory prepared."""
    return {"": Training(case, data) if case.direction == TRAIN else Greedy(case, data)}


def _build(case: Case, data: Arrays) -> Any:
    from fastattn.seq2seq import BahdanauConfig, build

    H, V = case.sizes["H"], case.sizes["V"]
    config = BahdanauConfig(embedding=case.sizes["E"], hidden=H, attention=H, readout="linear", reset="after")
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
        self._start()

    def _start(self) -> None:
        from fastattn.optim import Adam

        self.adam = Adam(self.parameters, rate=bahdanau.RATE, betas=bahdanau.BETAS, epsilon=bahdanau.EPSILON)

    def _gradients(self) -> float:
        loss, count, backward = self.model.loss_vjp(self.batch, seeds=self.seeds)
        backward(1 / count)
        return loss / count

    def __call__(self) -> Training:
        from fastattn.optim import clip_scale, global_norm

        self.loss = self._gradients()
        self.norm = global_norm(self.parameters)
        self.adam.step(scale=clip_scale(self.norm, bahdanau.LIMIT))
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


class Greedy:
    """One step with argmax; the memory was prepared when the source was encoded."""

    def __init__(self, case: Case, data: Arrays) -> None:
        from dataclasses import replace

        self.model = _build(case, data)
        source = data["source"]
        state = self.model.encode(source, np.full(len(source), source.shape[1]))
        self.state = replace(state, hidden=data["state"].copy())
        self.tokens = data["target"][:, 0].copy()

    def __call__(self) -> Greedy:
        self.log_probs, self.next, self.weights = self.model.step(self.tokens, self.state)
        self.chosen = self.log_probs.argmax(axis=-1)
        return self

    def examine(self) -> Arrays:
        if not np.array_equal(self.chosen, self.log_probs.argmax(axis=-1)):
            raise AssertionError("the chosen tokens are not the best")
        return {"log_probs": self.log_probs, "state": self.next.hidden}


def _one(number: float) -> np.ndarray:
    return np.array([number], np.float32)
