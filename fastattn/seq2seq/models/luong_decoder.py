"""The decoder of `Luong`: its layers, and the two ways in which a batch passes them in training.

With input feeding, the input of a step has the attentional vector of the step before: one step after the other.
Without it all inputs are known: every layer walks all steps in one call, and attention has all queries at once. Outputs
have the same bits either way.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastattn import linear
from fastattn._arrays import Array
from fastattn.functional import tanh
from fastattn.layers import Layer, Linear
from fastattn.seq2seq.models.attending import AttentionLoop
from fastattn.seq2seq.models.randomness import Place
from fastattn.seq2seq.models.recurrence import LSTMStep, Record, Walk

__all__ = ["AtOnce", "Decoder", "StepByStep"]

Drop = Callable[[Array, int], tuple[Array, Callable[[Array], Array]]]
Back = Callable[[Array], Array]
States = tuple[tuple[Array, Array], ...]  # h and c of each layer


class Decoder(Layer):
    """Stacked LSTMs, and the attentional vector made of the top one's h.

    Parameters
    ----------
    embedding, hidden, layers : int
    feeding : bool
        Whether the attentional vector is an input of the next step.
    rng, dtype

    Attributes
    ----------
    inputs : list of Linear
        What each layer's gates get besides the state's part: of the first from the embedding.
    cells : list of LSTMStep
    feed : Linear or None
        What the first layer's gates get from the attentional vector.
    from_state : Linear
    """

    def __init__(
        self, embedding: int, hidden: int, layers: int, feeding: bool, *, rng: np.random.Generator, dtype: Any
    ) -> None:
        H, more = hidden, {"rng": rng, "dtype": dtype}
        self.inputs = [Linear(embedding if number == 0 else H, 4 * H, **more) for number in range(layers)]
        for layer in self.inputs:
            assert layer.b is not None
            with layer.b.edit() as value:  # forget gates start open
                value[H : 2 * H] = 1
        self.cells = [LSTMStep(H, **more) for _ in self.inputs]
        self.feed = Linear(H, 4 * H, bias=False, **more) if feeding else None
        self.from_state = Linear(H, H, bias=False, **more)

    def step(self, y: Array, layers: States, attentional: Array) -> States:
        """Return each layer's h and c after an embedding y (B, E), from those before and the attentional vector."""
        x = self.inputs[0].forward(y)
        if self.feed is not None:
            x = x + self.feed.forward(attentional)
        after: list[tuple[Array, Array]] = []
        for number, (cell, (h, c)) in enumerate(zip(self.cells, layers)):
            after.append(cell.forward(self.inputs[number].forward(after[-1][0]) if number else x, h, c))
        return tuple(after)

    def attentional(self, context: Array, h: Array) -> Array:
        """Return the attentional vector of what a context passed through and of the top layer's h."""
        return tanh(context + self.from_state.forward(h))


class _Way:
    """What both ways share.

    Parameters
    ----------
    decoder : Decoder
    attention : AttentionLoop
    last : tuple of (h, c)
        Of each layer, before the first step.
    drop : callable
        Dropout by place.
    drops : bool
        Whether it drops anything.
    """

    def __init__(self, decoder: Decoder, attention: AttentionLoop, last: States, drop: Drop, drops: bool) -> None:
        self.decoder, self.attention, self.last, self.drop, self.drops = decoder, attention, last, drop, drops

    def _accumulate(self, top: Array, d_sum: Array, between: Sequence[Array], d_x: Sequence[Array]) -> None:
        """Add the gradients of the weights inside of the loop, one product each over all steps."""
        for layer, x, d_input in zip(self.decoder.inputs[1:], between, d_x[1:]):
            assert layer.b is not None
            linear.weight_gradient(x, d_input, layer.w.gradient, sums=layer.b.gradient)
        linear.weight_gradient(top, d_sum, self.decoder.from_state.w.gradient)


class StepByStep(_Way):
    """One step after the other, as input feeding needs it."""

    def forward(self, part: Array) -> Array:
        """Return attentional vectors (B, T, H) from what embeddings give to the first layer's gates (B, T, 4 H)."""
        decoder, (batch, steps, _) = self.decoder, part.shape
        width = self.last[0][0].shape[-1]
        self._records = [Record(cell, steps, h, c) for cell, (h, c) in zip(decoder.cells, self.last)]
        self._between = [np.empty((batch, steps, width), part.dtype) for _ in self._records[1:]]
        self._undrops: list[list[Back]] = [[] for _ in self._between]
        self._attentional = np.zeros((batch, steps + 1, width), part.dtype)
        for t in range(steps):
            fed = () if decoder.feed is None else (decoder.feed.forward(self._attentional[:, t]),)
            h = self._records[0].forward(t, part[:, t], *fed)
            for number, (between, undrops) in enumerate(zip(self._between, self._undrops)):
                below, undrop = self.drop(h, _place(number, t))
                between[:, t] = below
                undrops.append(undrop)
                h = self._records[number + 1].forward(t, decoder.inputs[number + 1].forward(below))
            self._attentional[:, t + 1] = decoder.attentional(self.attention.step(h), h)
        return self._attentional[:, 1:]

    def backward(self, dx: Array) -> tuple[Array, list[tuple[Array, Array]]]:
        """Return the gradients of `part` and of the first h and c of each layer; add those of the weights."""
        decoder, records, d_sum = self.decoder, self._records, np.empty_like(dx)
        d_last = [(np.zeros_like(h), np.zeros_like(c)) for h, c in self.last]
        d_fed: Array | None = None
        for t in reversed(range(dx.shape[1])):
            d_attentional = dx[:, t] if d_fed is None else dx[:, t] + d_fed
            d_sum[:, t] = d_attentional * (1 - self._attentional[:, t + 1] ** 2)
            dh = decoder.from_state.w.packed().matmul_transposed(d_sum[:, t])
            dh += self.attention.step_backward(t, d_sum[:, t])
            for number in reversed(range(len(records))):
                d_last[number] = records[number].backward(t, dh + d_last[number][0], d_last[number][1])
                below = records[number].d_x[:, t]
                if number:
                    dh = self._undrops[number - 1][t](decoder.inputs[number].w.packed().matmul_transposed(below))
                elif decoder.feed is not None:
                    d_fed = decoder.feed.w.packed().matmul_transposed(below)
        for record in records:
            record.finish()
        d_x = [record.d_x for record in records]
        self._accumulate(records[-1].states[:, 1:], d_sum, self._between, d_x)
        if decoder.feed is not None:
            linear.weight_gradient(self._attentional[:, :-1], d_x[0], decoder.feed.w.gradient)
        return d_x[0], d_last


class AtOnce(_Way):
    """All steps of a layer in one call, for a decoder without input feeding."""

    def forward(self, part: Array) -> Array:
        """Return attentional vectors (B, T, H) from what embeddings give to the first layer's gates (B, T, 4 H)."""
        decoder = self.decoder
        self._between: list[Array] = []
        self._undrops: list[Back] = []
        self._walks = [Walk(decoder.cells[0], part, *self.last[0])]
        for number, (cell, first) in enumerate(zip(decoder.cells[1:], self.last[1:])):
            below, undrop = self._drop(self._walks[-1].states, number)
            self._between.append(below)
            self._undrops.append(undrop)
            self._walks.append(Walk(cell, decoder.inputs[number + 1].forward(below), *first))
        top = self._walks[-1].states
        self._attentional = decoder.attentional(self.attention.forward(top), top)
        return self._attentional

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
        decoder, walks = self.decoder, self._walks
        d_sum = dx * (1 - self._attentional**2)
        dh = decoder.from_state.w.packed().matmul_transposed(d_sum) + self.attention.backward(d_sum)
        d_last = []
        for number in reversed(range(len(walks))):
            d_last.append(walks[number].backward(dh))
            if number:
                dh = self._undrops[number - 1](decoder.inputs[number].w.packed().matmul_transposed(walks[number].d_x))
        for walk in walks:
            walk.finish()
        d_x = [walk.d_x for walk in walks]
        self._accumulate(walks[-1].states, d_sum, self._between, d_x)
        return d_x[0], d_last[::-1]


def _place(layer: int, step: int) -> int:
    """Where the dropout between layers is."""
    return Place.STEPS + (layer << 32) + step
