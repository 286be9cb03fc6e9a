"""The Transformer of fastattn, through its public names only."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...case import TRAIN, Arrays, Case, Run
from ..training.ours import Training, built, collect
from .reference import RATE

__all__ = ["collect", "prepare"]
PRECISIONS = ("float32", "bfloat16", "int8")


def prepare(case: Case, data: Arrays) -> dict[str, Run]:
    """A training step, or a beam search."""
    from fastattn.seq2seq import TransformerConfig

    V, D, heads, inner, layers = (case.sizes[name] for name in ("V", "D", "H", "F", "N"))
    config = TransformerConfig(
        width=D, heads=heads, inner=inner, encoder_layers=layers, decoder_layers=layers, bias=True, tied="all",
        dropout=0.0, label_smoothing=0.0,
    )  # fmt: skip
    model = built(config, V, data)
    if case.direction != TRAIN:
        model.store(case.precision)
        return {"": Search(model, case, data)}
    if case.precision == "int8":
        return {}
    # The gradient of the last bias is computed and left alone: Marian does not learn it.
    return {"": Training(case, model, data, RATE, fixed=("projection.b",))}


class Search:
    """From source ids to the best sentence of each."""

    def __init__(self, model: Any, case: Case, data: Arrays) -> None:
        self.model, self.source = model, data["source"]
        self.lengths = np.full(len(self.source), self.source.shape[1])
        self.size, self.limit = case.sizes["K"], case.sizes["T"]

    def __call__(self) -> Search:
        from fastattn.seq2seq import beam_search, greedy

        if self.size == 1:
            self.found = [[best] for best in greedy(self.model, self.source, self.lengths, limit=self.limit)]
        else:
            self.found = beam_search(self.model, self.source, self.lengths, size=self.size, limit=self.limit)
        return self

    def examine(self) -> Arrays:
        tokens = np.stack([best.tokens for [best] in self.found])
        return {
            "tokens": tokens.astype(np.float32),
            "score": np.array([best.log_probability for [best] in self.found], np.float32),
        }
