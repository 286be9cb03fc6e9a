"""Encoder-decoders without attention: one fixed vector holds the whole source. The baseline for those that have it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastattn.errors import ArgumentError, describe
from fastattn.functional import tanh
from fastattn.layers import GRU, LSTM, Bidirectional, Embedding, Linear, Stacked
from fastattn.seq2seq.maxout import maxout, maxout_vjp
from fastattn.seq2seq.model import Model, Pairs, State, check_sentences, dropping, known, register
from fastattn.seq2seq.randomness import derive
from fastattn.seq2seq.recurrence import GRUStep, GRUWalk

__all__ = ["Cho", "ChoConfig", "Sutskever", "SutskeverConfig"]

Array = NDArray[Any]


@dataclass(frozen=True)
class SutskeverConfig:
    """Settings of `Sutskever`; sizes by default as in the paper's section 3.4.

    Attributes
    ----------
    embedding, hidden : int
        Widths of embeddings and of a layer's h and c.
    layers : int
    reverse_source : bool
        Whether source tokens are read from last to first, the end token still last.
    dropout : float
        Share of the elements of embeddings, outputs of layers and output features dropped in training.
    label_smoothing : float
        Share of the target's probability that training spreads over the vocabulary.
    """

    kind: str = "sutskever"
    embedding: int = 1000
    hidden: int = 1000
    layers: int = 4
    reverse_source: bool = True
    dropout: float = 0.0
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class SutskeverState(State):
    """For each layer h and c, (B, H) each."""

    layers: tuple[tuple[Array, Array], ...]


@register
class Sutskever(Model):
    """Deep LSTM encoder whose last state starts a deep LSTM decoder.

    The fixed vector is h and c of all layers after the last source token. Reversing the source brings its first
    words near the target's first words. The decoder's loop depends on given tokens only, so that training has one
    matrix product a layer for all steps, besides those with the state.

    Parameters
    ----------
    config : SutskeverConfig
    source_size, target_size : int
    rng : numpy.random.Generator
    dtype : dtype

    References
    ----------
    Sutskever, Vinyals, Le, "Sequence to Sequence Learning with Neural Networks", NeurIPS 2014, arXiv:1409.3215.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import SutskeverConfig, build
    >>> model = build(SutskeverConfig(embedding=8, hidden=16, layers=2), 10, 12, seed=0)
    >>> log_probabilities, state, weights = model.step(np.array([1]), model.encode(np.array([[4, 2]]), np.array([2])))
    >>> log_probabilities.shape, weights
    ((1, 12), None)
    """

    kind = "sutskever"
    settings = SutskeverConfig

    def __init__(
        self,
        config: SutskeverConfig,
        source_size: int,
        target_size: int,
        *,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        E, H = config.embedding, config.hidden
        more: Any = {"rng": rng, "dtype": dtype}
        if config.layers < 1:
            raise ArgumentError(describe("layers", "at least 1", config.layers, "the paper has 4."))
        self.config = config
        self.source_embedding = Embedding(source_size, E, deviation=E**-0.5, **more)
        widths = [E, *[H] * (config.layers - 1)]
        self.encoder = Stacked([LSTM(width, H, **more) for width in widths], dropout=config.dropout)
        self.target_embedding = Embedding(target_size, E, deviation=E**-0.5, **more)
        self.decoder = Stacked([LSTM(width, H, **more) for width in widths], dropout=config.dropout)
        self.projection = Linear(H, target_size, **more)

    def _source(self, source: Array, lengths: Array) -> Array:
        ids = known(source, lengths)
        if not self.config.reverse_source:
            return ids
        last = np.asarray(lengths)[:, None] - 1
        at = np.arange(ids.shape[1])
        return np.take_along_axis(ids, np.where(at < last, last - 1 - at, at), axis=1)

    def encode(self, source: Array, source_lengths: Array) -> SutskeverState:
        """Return the state before the first target token."""
        check_sentences("source", source, source_lengths)
        x = self.source_embedding.forward(self._source(source, source_lengths))
        return SutskeverState(self.encoder.forward(x, None, source_lengths)[1])

    def advance(self, tokens: Array, state: SutskeverState) -> tuple[Array, SutskeverState, None]:
        """Return features (B, H) after `tokens`, the next state, and no weights."""
        x, after = self.target_embedding.forward(tokens), []
        for layer, before in zip(self.decoder.layers, state.layers):
            after.append(layer.cell.forward(x, before))
            x = after[-1][0]
        return x, SutskeverState(tuple(after)), None

    def features(self, batch: Pairs, inputs: Array, *, weights: bool = False) -> tuple[Array, None]:
        """Return features (B, T, H), and no weights."""
        state = self.encode(batch.source, batch.source_lengths)
        return self.decoder.forward(self.target_embedding.forward(inputs), state.layers)[0], None

    def features_vjp(self, batch: Pairs, inputs: Array, seeds: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return features with dropout, and the function from their gradient, which adds to parameters'."""
        drop = dropping(self.config.dropout, seeds)
        source, source_back = self.source_embedding.vjp(self._source(batch.source, batch.source_lengths))
        source, undrop_source = drop(source, 0)
        _, states, encoder_back = self.encoder.vjp(source, None, batch.source_lengths, seeds=derive(seeds, 3))
        y, target_back = self.target_embedding.vjp(inputs)
        y, undrop_target = drop(y, 1)
        x, _, decoder_back = self.decoder.vjp(y, states, seeds=derive(seeds, 4))
        x, undrop_features = drop(x, 2)

        def backward(dx: Array) -> None:
            dy, d_states = decoder_back(undrop_features(dx))
            target_back(undrop_target(dy))
            source_back(undrop_source(encoder_back(None, d_states)[0]))

        return x, backward


@dataclass(frozen=True)
class ChoConfig:
    """Settings of `Cho`; sizes by default as in the paper's section 4.2.

    Attributes
    ----------
    embedding, hidden : int
        Widths E of embeddings and H of states.
    readout_width : int
        Outputs L of the maxout layer.
    reset : str
        What the decoder's reset gate acts on: "published": the products of state and fixed vector; "before": the
        state; "after": the product of the state.
    bidirectional : bool
        Whether a second GRU reads the source from its end, so that the encoder is that of `Bahdanau`; in the paper
        there is one.
    dropout : float
        Share of the elements of embeddings and output features dropped in training.
    label_smoothing : float
        Share of the target's probability that training spreads over the vocabulary.
    """

    kind: str = "cho"
    embedding: int = 100
    hidden: int = 1000
    readout_width: int = 500
    reset: str = "published"
    bidirectional: bool = False
    dropout: float = 0.0
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class ChoState(State):
    """The decoder's state (B, H), and what the fixed vector adds to gates and output at each step."""

    hidden: Array
    part: Array
    inside: Array | None


@register
class Cho(Model):
    """GRU encoder; GRU decoder that sees the fixed vector c at every step.

    ::

        c = tanh(h_last V + b)                        s_0 = tanh(c V' + b')
        r_i, z_i = sigmoid(E y_{i-1} W + s_{i-1} U + c C)
        n_i = tanh(E y_{i-1} W + r_i * (s_{i-1} U + c C))               s_i = z_i * s_{i-1} + (1 - z_i) * n_i
        p(y_i) = softmax(max over pairs of (s_i O_s + E y_{i-1} O_y + c O_c) G)

    Parameters
    ----------
    config : ChoConfig
    source_size, target_size : int
    rng : numpy.random.Generator
    dtype : dtype

    Notes
    -----
    The loop over time has the products of the state alone, 3 H H multiply-adds a sentence and step; in training it is
    one call for all steps. The paper's
    matrices E and G are products of two of rank 100 and 500 to save parameters; here they are single ones.

    References
    ----------
    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation",
    EMNLP 2014, arXiv:1406.1078, appendix A.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import ChoConfig, build
    >>> model = build(ChoConfig(embedding=8, hidden=16, readout_width=8), 10, 12, seed=0)
    >>> log_probabilities, state, weights = model.step(np.array([1]), model.encode(np.array([[4, 2]]), np.array([2])))
    >>> log_probabilities.shape, weights
    ((1, 12), None)
    """

    kind = "cho"
    settings = ChoConfig

    def __init__(
        self,
        config: ChoConfig,
        source_size: int,
        target_size: int,
        *,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        if config.reset not in ("published", "before", "after"):
            hint = "'published' is that of the paper's appendix."
            raise ArgumentError(describe("reset", "'published', 'before' or 'after'", repr(config.reset), hint))
        E, H, wide = config.embedding, config.hidden, 2 * config.readout_width
        more: Any = {"rng": rng, "dtype": dtype}
        self.config = config
        self.published = config.reset == "published"
        reset = "after" if config.reset == "after" else "before"
        self.source_embedding = Embedding(source_size, E, deviation=E**-0.5, **more)
        directions = (False, True) if config.bidirectional else (False,)
        layers = [GRU(E, H, reset=reset, reverse=reverse, **more) for reverse in directions]
        self.encoder: Any = Bidirectional(*layers) if config.bidirectional else layers[0]
        self.summary = Linear(H * len(layers), H, **more)
        self.bridge = Linear(H, H, **more)
        self.target_embedding = Embedding(target_size, E, deviation=E**-0.5, **more)
        # Columns of the gates, then those of the maxout layer.
        self.from_target = Linear(E, 3 * H + wide, **more)
        self.from_vector = Linear(H, 3 * H + wide, bias=False, **more)
        self.cell = GRUStep(H, reset="after" if self.published else reset, **more)
        self.from_state = Linear(H, wide, bias=False, **more)
        self.projection = Linear(config.readout_width, target_size, **more)

    def _parts(self, vector_part: Array) -> tuple[Array, Array | None]:
        """What the fixed vector adds outside and inside of the reset gate."""
        if not self.published:
            return vector_part, None
        H = self.config.hidden
        outside = vector_part.copy()
        outside[:, 2 * H : 3 * H] = 0
        return outside, np.ascontiguousarray(vector_part[:, 2 * H : 3 * H])

    def encode(self, source: Array, source_lengths: Array) -> ChoState:
        """Return the state before the first target token."""
        check_sentences("source", source, source_lengths)
        x = self.source_embedding.forward(known(source, source_lengths))
        vector = tanh(self.summary.forward(self.encoder.forward(x, None, source_lengths)[1]))
        return ChoState(tanh(self.bridge.forward(vector)), *self._parts(self.from_vector.forward(vector)))

    def advance(self, tokens: Array, state: ChoState) -> tuple[Array, ChoState, None]:
        """Return features (B, L) after `tokens`, the next state, and no weights."""
        gates = 3 * self.config.hidden
        part = self.from_target.forward(self.target_embedding.forward(tokens)) + state.part
        hidden = self.cell.forward(part[:, :gates].copy(), state.hidden, state.inside)
        x = maxout(self.from_state.forward(hidden) + part[:, gates:])
        return x, ChoState(hidden, state.part, state.inside), None

    def features(self, batch: Pairs, inputs: Array, *, weights: bool = False) -> tuple[Array, None]:
        """Return features (B, T, L), and no weights."""
        return self._run(batch, inputs, None)[0], None

    def features_vjp(self, batch: Pairs, inputs: Array, seeds: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return features with dropout, and the function from their gradient, which adds to parameters'."""
        return self._run(batch, inputs, seeds)

    def _run(self, batch: Pairs, inputs: Array, seeds: Array | None) -> tuple[Array, Callable[[Array], None]]:
        H, drop = self.config.hidden, dropping(self.config.dropout, seeds)
        gates, steps = 3 * H, inputs.shape[1]
        lengths = np.asarray(batch.source_lengths)
        embedded, source_back = self.source_embedding.vjp(known(batch.source, lengths))
        embedded, undrop_source = drop(embedded, 0)
        _, last, encoder_back = self.encoder.vjp(embedded, None, lengths)
        summary, summary_back = self.summary.vjp(last)
        vector = tanh(summary)
        bridge, bridge_back = self.bridge.vjp(vector)
        first = tanh(bridge)
        vector_part, vector_back = self.from_vector.vjp(vector)
        outside, inside = self._parts(vector_part)

        y, target_back = self.target_embedding.vjp(inputs)
        y, undrop_target = drop(y, 1)
        part, part_back = self.from_target.vjp(y)
        part += outside[:, None]
        walk = GRUWalk(self.cell, part[..., :gates].copy(), first, inside)
        from_state, from_state_back = self.from_state.vjp(walk.states)
        wide = from_state + part[..., gates:]
        x, undrop_features = drop(maxout(wide), 2)

        def backward(dx: Array) -> None:
            d_wide = maxout_vjp(wide, undrop_features(dx))
            dh = walk.backward(from_state_back(d_wide))
            walk.finish()
            d_part = np.concatenate([walk.d_x, d_wide], axis=-1)
            target_back(undrop_target(part_back(d_part)))
            d_vector_part = d_part[:, 0].copy()
            for t in range(1, steps):
                d_vector_part += d_part[:, t]
            if inside is not None:
                d_vector_part[:, 2 * H : gates] = walk.d_inside()
            d_vector = vector_back(d_vector_part) + bridge_back(dh * (1 - first * first))
            d_last = summary_back(d_vector * (1 - vector * vector))
            source_back(undrop_source(encoder_back(None, d_last)[0]))

        return x, backward
