"""A model of fastattn in training, through public names only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...case import Arrays, Case
from . import BETAS, EPSILON, LIMIT


def built(config: Any, words: int, data: Arrays) -> Any:
    """The model of a configuration, with the weights of the case."""
    from fastattn.seq2seq import build

    model = build(config, words, words, seed=0)
    _load(model, data)
    return model


def _load(model: Any, data: Arrays) -> None:
    for name, parameter in model.parameters().items():
        parameter.assign(data[name])


def within(case: Case, function: Callable[[], Any]) -> Callable[[], Any]:
    """A function that computes in the precision of the case: products of one bfloat16 number where it is narrower."""
    if case.precision == "float32":
        return function
    from fastattn import float32_precision

    def run() -> Any:
        with float32_precision("medium"):
            return function()

    return run


class Training:
    """Loss, gradients, clipping and Adam; the call returns the contestant itself, for `collect`."""

    def __init__(self, case: Case, model: Any, data: Arrays, rate: float, fixed: Sequence[str] = ()) -> None:
        self.model, self.data, self.rate = model, data, rate
        self._computed = within(case, self._loss)
        source, target = data["source"], data["target"]
        lengths = [np.full(len(ids), ids.shape[1]) for ids in (source, target)]
        self.batch = SimpleNamespace(source=source, source_lengths=lengths[0], target=target, target_lengths=lengths[1])
        self.seeds = np.arange(len(source), dtype=np.uint64)
        self.parameters = {name: value for name, value in model.parameters().items() if name not in fixed}
        self._start()

    def _start(self) -> None:
        from fastattn.optim import Adam

        self.adam = Adam(self.parameters, rate=self.rate, betas=BETAS, epsilon=EPSILON)

    def _gradients(self) -> float:
        return float(self._computed())

    def _loss(self) -> float:
        loss, count, backward = self.model.loss_vjp(self.batch, seeds=self.seeds)
        backward(1 / count)
        return float(loss / count)

    def __call__(self) -> Training:
        from fastattn.optim import clip_scale, global_norm

        self.loss = self._gradients()
        self.norm = global_norm(self.parameters)
        self.adam.step(scale=clip_scale(self.norm, LIMIT))
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


def collect(case: Case, result: Any) -> Arrays:
    """What is compared; a contestant says itself."""
    found: Arrays = result.examine()
    return found


def _one(number: float) -> np.ndarray:
    return np.array([number], np.float32)
