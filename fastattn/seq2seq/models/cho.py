"""The encoder-decoder of Cho et al. 2014: one fixed vector holds the whole source. The baseline for attention."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fastattn._arrays import Array
from fastattn.functional import tanh
from fastattn.layers import GRU, Bidirectional, Embedding, Linear
from fastattn.layers.recurrent.gru import Reset
from fastattn.seq2seq.models.maxout import maxout, maxout_vjp
from fastattn.seq2seq.models.model import BatchLike, Model, State, check_sentences, dropping, padded
from fastattn.seq2seq.models.randomness import Place
from fastattn.seq2seq.models.recurrence import GRUStep, Walk
from fastattn.seq2seq.schema import Section, share, size

__all__ = ["Cho", "ChoConfig"]


@dataclass(frozen=True)
class ChoConfig(Section, section="model"):
    """Settings of `Cho`; sizes by default as in the paper's section 4.2.

    Attributes
    ----------
    embedding, hidden : int
        Widths E of embeddings and H of states.
    readout_width : int
        Outputs L of the maxout layer.
    reset : {"published", "before", "after"}
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

    kind: Literal["cho"] = "cho"
    embedding: int = size(100)
    hidden: int = size(1000)
    readout_width: int = size(500)
    reset: Literal["published", "before", "after"] = "published"
    bidirectional: bool = False
    dropout: float = share(0.0)
    label_smoothing: float = share(0.0)


@dataclass(frozen=True)
class ChoState(State):
    """The decoder's state (B, H), and what the fixed vector adds to gates and output at each step."""

    hidden: Array
    part: Array
    inside: Array | None


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

    attends = False

    def __init__(
        self,
        config: ChoConfig,
        source_size: int,
        target_size: int,
        *,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        E, H, wide = config.embedding, config.hidden, 2 * config.readout_width
        more: Any = {"rng": rng, "dtype": dtype}
        self.config = config
        self.published = config.reset == "published"
        reset: Reset = "after" if config.reset == "after" else "before"
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
        x = self.source_embedding.forward(padded(source, source_lengths))
        vector = tanh(self.summary.forward(self.encoder.forward(x, None, source_lengths)[1]))
        return ChoState(tanh(self.bridge.forward(vector)), *self._parts(self.from_vector.forward(vector)))

    def advance(self, tokens: Array, state: ChoState) -> tuple[Array, ChoState, None]:
        """Return features (B, L) after `tokens`, the next state, and no weights."""
        gates = 3 * self.config.hidden
        part = self.from_target.forward(self.target_embedding.forward(tokens)) + state.part
        hidden = self.cell.forward(part[:, :gates].copy(), state.hidden, state.inside)
        x = maxout(self.from_state.forward(hidden) + part[:, gates:])
        return x, ChoState(hidden, state.part, state.inside), None

    def features(self, batch: BatchLike, inputs: Array, *, weights: bool | str = False) -> tuple[Array, None]:
        """Return features (B, T, L), and no weights."""
        return self._run(batch, inputs, None)[0], None

    def features_vjp(self, batch: BatchLike, inputs: Array, seeds: Array) -> tuple[Array, Callable[[Array], None]]:
        """Return features with dropout, and the function from their gradient, which adds to parameters'."""
        return self._run(batch, inputs, seeds)

    def _run(self, batch: BatchLike, inputs: Array, seeds: Array | None) -> tuple[Array, Callable[[Array], None]]:
        H, drop = self.config.hidden, dropping(self.config.dropout, seeds)
        gates, steps = 3 * H, inputs.shape[1]
        lengths = np.asarray(batch.source_lengths)
        embedded, source_back = self.source_embedding.vjp(padded(batch.source, lengths))
        embedded, undrop_source = drop(embedded, Place.SOURCE)
        _, last, encoder_back = self.encoder.vjp(embedded, None, lengths)
        summary, summary_back = self.summary.vjp(last)
        vector = tanh(summary)
        bridge, bridge_back = self.bridge.vjp(vector)
        first = tanh(bridge)
        vector_part, vector_back = self.from_vector.vjp(vector)
        outside, inside = self._parts(vector_part)

        y, target_back = self.target_embedding.vjp(inputs)
        y, undrop_target = drop(y, Place.TARGET)
        part, part_back = self.from_target.vjp(y)
        part += outside[:, None]
        walk = Walk(self.cell, part[..., :gates].copy(), first, inside=inside)
        from_state, from_state_back = self.from_state.vjp(walk.states)
        wide = from_state + part[..., gates:]
        x, undrop_features = drop(maxout(wide), Place.FEATURES)

        def backward(dx: Array) -> None:
            d_wide = maxout_vjp(wide, undrop_features(dx))
            dh, _ = walk.backward(from_state_back(d_wide))
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
