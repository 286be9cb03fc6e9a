"""The Bahdanau model of fastattn, through its public names only."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...case import TRAIN, Arrays, Case, Run
from ..training.ours import Training, built, collect
from .reference import RATE

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    """A training step, or a greedy step with the memory prepared."""
    from fastattn.seq2seq import BahdanauConfig

    H, V = case.sizes["H"], case.sizes["V"]
    config = BahdanauConfig(embedding=case.sizes["E"], hidden=H, attention=H, readout="linear", reset="after")
    model = built(config, V, data)
    if case.direction != TRAIN and case.precision != "float32":
        return {}
    return {"": Training(case, model, data, RATE) if case.direction == TRAIN else Greedy(model, data)}


class Greedy:
    """One step with argmax; the memory was prepared when the source was encoded."""

    def __init__(self, model: Any, data: Arrays) -> None:
        from dataclasses import replace

        self.model = model
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
