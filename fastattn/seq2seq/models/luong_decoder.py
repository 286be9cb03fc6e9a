"""The two ways in which the decoder of `Luong` passes a batch in training, with the same bits.

With input feeding, the input of a step has the attentional vector of the step before: one step after the other.
Without it all inputs are known: every layer walks all steps in one call, and attention has all queries at once. A
mechanism of the configuration may carry something from step to step, and goes the first way with or without it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastattn import linear
from fastattn.functional import tanh
from fastattn.seq2seq.models.lookback import Lookback
from fastattn.seq2seq.models.mechanism import MechanismLoop
from fastattn.seq2seq.models.recurrence_lstm import LSTMRecord, LSTMWalk

if TYPE_CHECKING:
    from fastattn.seq2seq.models.luong import Luong

__all__ = ["AtOnce", "StepByStep"]

Array = NDArray[Any]
Drop = Callable[[Array, int], tuple[Array, Callable[[Array], Array]]]
Back = Callable[[Array], Array]


def _place(layer: int, step: int) -> int:
    """Where the dropout between layers is: below 2^32 steps no two places of the model share their seeds."""
    return (4 + layer << 32) + step


class _Decoder:
    """What both ways share.

    Parameters
    ----------
    model : Luong
    loop : Lookback or MechanismLoop
    last : tuple of (h, c)
        Of each layer, before the first step.
    location : PackedWeights or None
        Of the location score.
    drop : callable
        Dropout by place.
    drops : bool
        Whether it drops anything.

    Attributes
    ----------
    attentional : array, shape (B, T, H)
        Set by `forward`.
    """

    attentional: Array

    def __init__(
        self,
        model: "Luong",
        loop: Lookback | MechanismLoop,
        last: tuple[tuple[Array, Array], ...],
        location: linear.PackedWeights | None,
        drop: Drop,
        drops: bool,
    ) -> None:
        self.model, self.loop, self.last, self.location = model, loop, last, location
        self.drop, self.drops = drop, drops

    def _from_queries(self, d_sum: Array, d_query: Array, d_score: Array) -> Array:
        """Return the gradient of the top layer's h (..., H) from those of what is made of it."""
        model = self.model
        dh = model.from_state.w.packed().matmul_transposed(d_sum)
        if self.location is not None:
            dh += self.location.matmul_transposed(d_score)
        elif model.query is not None:
            dh += model.query.w.packed().matmul_transposed(d_query)
        else:
            dh += d_query
        return dh

    def _kept(self) -> tuple[Array, Array]:
        """Return arrays for the gradients of all queries (B, T, H) and scores (B, T, S); a mechanism keeps its own."""
        if isinstance(self.loop, MechanismLoop):
            return np.empty(0), np.empty(0)
        return np.empty_like(self.loop.queries), np.empty_like(self.loop.weights.transpose(1, 0, 2))

    def _accumulate(
        self, top: Array, between: list[Array], d_x: list[Array], d_sum: Array, d_queries: Array, d_scores: Array
    ) -> None:
        """Add the gradients of the weights inside of the loop, one product each over all steps."""
        model = self.model
        for layer, x, d_input in zip(model.inputs[1:], between, d_x[1:]):
            assert layer.b is not None
            linear.weight_gradient(x, d_input, layer.w.gradient, sums=layer.b.gradient)
        linear.weight_gradient(top, d_sum, model.from_state.w.gradient)
        if model.query is not None:
            linear.weight_gradient(top, d_queries, model.query.w.gradient)
        if self.location is not None:
            model.location.gradient[:, : d_scores.shape[-1]] += linear.weight_gradient(top, d_scores)


class StepByStep(_Decoder):
    """One step after the other, as input feeding and mechanisms with a state need it."""

    def forward(self, part: Array) -> Array:
        """Return attentional vectors (B, T, H) from what embeddings give to the first layer's gates (B, T, 4 H)."""
        model, (batch, steps, _) = self.model, part.shape
        width = self.last[0][0].shape[-1]
        self._records = [LSTMRecord(cell, h, c, steps) for cell, (h, c) in zip(model.cells, self.last)]
        self._between = [np.empty((batch, steps, width), part.dtype) for _ in self._records[1:]]
        self._undrops: list[list[Back]] = [[] for _ in self._between]
        self._fed = np.zeros((batch, steps + 1, width), part.dtype)
        for t in range(steps):
            fed = () if model.feed is None else (model.feed.forward(self._fed[:, t]),)
            h = self._records[0].forward(t, part[:, t], *fed)
            for number, (between, undrops) in enumerate(zip(self._between, self._undrops)):
                below, undrop = self.drop(h, _place(number, t))
                between[:, t] = below
                undrops.append(undrop)
                h = self._records[number + 1].forward(t, model.inputs[number + 1].forward(below))
            if isinstance(self.loop, MechanismLoop):
                context = self.loop.forward(t, h)
            else:
                context = self.loop.forward(t, *model.ask(h, self.location))
            self._fed[:, t + 1] = tanh(context + model.from_state.forward(h))
        self.attentional = self._fed[:, 1:]
        return self.attentional

    def backward(self, dx: Array) -> tuple[Array, list[tuple[Array, Array]]]:
        """Return the gradients of `part` and of the first h and c of each layer; add those of the weights."""
        model, loop, records = self.model, self.loop, self._records
        d_sum, (d_queries, d_scores) = np.empty_like(dx), self._kept()
        d_last = [(np.zeros_like(h), np.zeros_like(c)) for h, c in self.last]
        d_fed: Array | None = None
        for t in reversed(range(dx.shape[1])):
            d_attentional = dx[:, t] if d_fed is None else dx[:, t] + d_fed
            d_sum[:, t] = d_attentional * (1 - self.attentional[:, t] ** 2)
            loop.d_context[:, t] = d_sum[:, t]
            if isinstance(loop, MechanismLoop):
                dh = model.from_state.w.packed().matmul_transposed(d_sum[:, t]) + loop.backward(t)
            else:
                d_queries[:, t], d_scores[:, t] = loop.backward(t)
                dh = self._from_queries(d_sum[:, t], d_queries[:, t], d_scores[:, t])
            for number in reversed(range(len(records))):
                d_last[number] = records[number].backward(t, dh + d_last[number][0], d_last[number][1])
                below = records[number].d_x[:, t]
                if number:
                    dh = self._undrops[number - 1][t](model.inputs[number].w.packed().matmul_transposed(below))
                elif model.feed is not None:
                    d_fed = model.feed.w.packed().matmul_transposed(below)
        for record in records:
            record.finish()
        d_x = [record.d_x for record in records]
        self._accumulate(records[-1].states[:, 1:], self._between, d_x, d_sum, d_queries, d_scores)
        if model.feed is not None:
            linear.weight_gradient(self._fed[:, :-1], d_x[0], model.feed.w.gradient)
        return d_x[0], d_last


class AtOnce(_Decoder):
    """All steps of a layer in one call, for a decoder without input feeding."""

    def forward(self, part: Array) -> Array:
        """Return attentional vectors (B, T, H) from what embeddings give to the first layer's gates (B, T, 4 H)."""
        model = self.model
        self._between: list[Array] = []
        self._undrops: list[Back] = []
        self._walks = [LSTMWalk(model.cells[0], part, *self.last[0])]
        for number, (cell, first) in enumerate(zip(model.cells[1:], self.last[1:])):
            below, undrop = self._drop(self._walks[-1].states, number)
            self._between.append(below)
            self._undrops.append(undrop)
            self._walks.append(LSTMWalk(cell, model.inputs[number + 1].forward(below), *first))
        top = self._walks[-1].states
        assert isinstance(self.loop, Lookback)
        self.attentional = tanh(self.loop.forward_all(*model.ask(top, self.location)) + model.from_state.forward(top))
        return self.attentional

    def _drop(self, x: Array, number: int) -> tuple[Array, Back]:
        """Dropout of x (B, T, H) with the masks of the single steps."""
        if not self.drops:
            return x, lambda dx: dx
        parts = [self.drop(x[:, t], _place(number, t)) for t in range(x.shape[1])]

        def undrop(dx: Array) -> Array:
            return np.stack([back(dx[:, t]) for t, (_, back) in enumerate(parts)], axis=1)

        return np.stack([dropped for dropped, _ in parts], axis=1), undrop

    def backward(self, dx: Array) -> tuple[Array, list[tuple[Array, Array]]]:
        """Return the gradients of `part` and of the first h and c of each layer; add those of the weights."""
        model, loop, walks = self.model, self.loop, self._walks
        assert isinstance(loop, Lookback)
        d_sum = dx * (1 - self.attentional**2)
        loop.d_context[...] = d_sum
        d_queries, d_scores = self._kept()
        for t in range(dx.shape[1]):
            d_queries[:, t], d_scores[:, t] = loop.backward(t)
        dh = self._from_queries(d_sum, d_queries, d_scores)
        d_last = []
        for number in reversed(range(len(walks))):
            d_last.append(walks[number].backward(dh))
            if number:
                below = model.inputs[number].w.packed().matmul_transposed(walks[number].d_x)
                dh = self._undrops[number - 1](below)
        for walk in walks:
            walk.finish()
        d_x = [walk.d_x for walk in walks]
        self._accumulate(walks[-1].states, self._between, d_x, d_sum, d_queries, d_scores)
        return d_x[0], d_last[::-1]
