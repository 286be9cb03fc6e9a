"""The encoder-decoder of Luong, Pham and Manning 2015 with global attention, or any other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from fastattn._arrays import Array
from fastattn.layers import LSTM, Embedding, Linear, Stacked
from fastattn.seq2seq.models import mechanism
from fastattn.seq2seq.models.attending import Attending, AttentionLoop, Pass
from fastattn.seq2seq.models.luong_decoder import AtOnce, Decoder, StepByStep
from fastattn.seq2seq.models.model import BatchLike, Longest, State, check_sentences, dropping, padded
from fastattn.seq2seq.models.randomness import Place, derive
from fastattn.seq2seq.schema import Section, setting, share, size
from fastattn.variants import AttentionState, Prepared

__all__ = ["Luong", "LuongConfig"]


@dataclass(frozen=True)
class LuongConfig(Section, section="model"):
    """Settings of `Luong`; sizes by default as in the paper's section 4.1.

    Attributes
    ----------
    embedding, hidden : int
        Widths E of embeddings and H of a layer's h and c, and of the attentional vector.
    layers : int
        LSTM layers of the encoder, and of the decoder.
    score : str
        "dot", "general", "concat", "location", or any score or variant by its name (`fastattn.variants.names`).
        `hidden` is its ``width`` where it needs one.
    input_feeding : bool
        Whether the attentional vector is an input of the next step.
    longest_source : int
        For the score "location", which has a weight for each position: the most source tokens.
    dropout : float
        Share of the elements of embeddings, outputs of layers and output features dropped in training.
    label_smoothing : float
        Share of the target's probability that training spreads over the vocabulary; the paper has none.
    coverage_loss, doubly_stochastic_loss : float
        Weights of losses of attention weights, as of `BahdanauConfig`.
    mechanism : mapping, optional
        In place of `score`: the ``name`` of a variant and its options. Its widths are the decoder's.
    """

    kind: Literal["luong"] = "luong"
    embedding: int = size(1000)
    hidden: int = size(1000)
    layers: int = size(4, most=1000)
    score: str = "general"
    input_feeding: bool = True
    longest_source: int = size(200)
    dropout: float = share(0.2)
    label_smoothing: float = share(0.0)
    coverage_loss: float = setting(0.0, least=0)
    doubly_stochastic_loss: float = setting(0.0, least=0)
    mechanism: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        mechanism.check_attention(self)


@dataclass(frozen=True)
class LuongState(State):
    """For each layer h and c, the attentional vector (B, H each), the source, and what attention carries along."""

    layers: tuple[tuple[Array, Array], ...]
    attentional: Array
    memory: Prepared
    attention: AttentionState


class Luong(Attending):
    """Stacked LSTMs; the decoder attends with its present state.

    ::

        h_t = LSTMs(h_{t-1}; [E y_{t-1}; a_{t-1}])     a_{t-1} with input feeding only
        score(h_t, m_s) = h_t . m_s  |  h_t W m_s  |  v . tanh(h_t W_q + m_s W_m)  |  (h_t W)_s
        c_t = sum_s softmax_s(score(h_t, m_s)) m_s
        a_t = tanh(c_t W_c + h_t W_h)                  p(y_t) = softmax(a_t W_o + b)

    with m the states of the encoder's last layer; the decoder starts from the last h and c of each of its layers.

    Parameters
    ----------
    config : LuongConfig
    source_size, target_size : int
    rng : numpy.random.Generator
    dtype : dtype

    Notes
    -----
    ``c_t W_c`` is the weighted sum of ``m_s W_c``: that product is made once a batch. A step of the loop over time
    needs, in multiply-adds for each sentence,

        4 H H (state) for each layer, 4 H H (input) for each but the first, and for that with input feeding
        H H (attentional vector), H H (query, "general" and "concat") or H S ("location"), and 2 S H (attention)

    and back the same products again. Outside of it: the first layer's input from embeddings, keys and values, the
    output layer, the loss, and all gradients of weights, keys and values. Without input feeding training has no such
    loop: a layer walks all steps in one call, and attention has all queries at once.

    References
    ----------
    Luong, Pham, Manning, "Effective Approaches to Attention-based Neural Machine Translation", EMNLP 2015,
    arXiv:1508.04025: sections 3, 3.1 and 3.3, equations 5 to 8.

    Examples
    --------
    >>> import numpy as np
    >>> from fastattn.seq2seq import LuongConfig, build
    >>> model = build(LuongConfig(embedding=8, hidden=16, layers=2, score="concat"), 10, 12, seed=0)
    >>> log_probabilities, state, weights = model.step(np.array([1]), model.encode(np.array([[4, 2]]), np.array([2])))
    >>> log_probabilities.shape, weights.shape
    ((1, 12), (1, 2))
    """

    def __init__(
        self,
        config: LuongConfig,
        source_size: int,
        target_size: int,
        *,
        rng: np.random.Generator,
        dtype: Any = np.float32,
    ) -> None:
        E, H = config.embedding, config.hidden
        more: Any = {"rng": rng, "dtype": dtype}
        self.config = config
        self.source_embedding = Embedding(source_size, E, deviation=E**-0.5, **more)
        layers = [LSTM(width, H, **more) for width in [E, *[H] * (config.layers - 1)]]
        self.encoder = Stacked(layers, dropout=config.dropout)
        self.target_embedding = Embedding(target_size, E, deviation=E**-0.5, **more)
        self.decoder = Decoder(E, H, config.layers, config.input_feeding, **more)
        self.mechanism = mechanism.make(config, query=H, memory=H, width=H, longest=config.longest_source, **more)
        self.from_context = Linear(H, H, bias=False, **more)
        self.projection = Linear(H, target_size, **more)

    def longest(self) -> Longest:
        """As of any model; the limit of a `score` is a setting of the model's own."""
        known = super().longest()
        return replace(known, key="longest_source") if self.config.mechanism is None else known

    def encode(self, source: Array, source_lengths: Array) -> LuongState:
        """Return the state before the first target token."""
        check_sentences("source", source, source_lengths)
        x = self.source_embedding.forward(padded(source, source_lengths))
        states, last = self.encoder.forward(x, None, source_lengths)
        return LuongState(last, np.zeros_like(last[0][0]), *self.remember(states, source_lengths))

    def advance(self, tokens: Array, state: LuongState) -> tuple[Array, LuongState, Array | None]:
        """Return features (B, H) after `tokens`, the next state, and weights (B, S) or (B, H, S)."""
        layers = self.decoder.step(self.target_embedding.forward(tokens), state.layers, state.attentional)
        h = layers[-1][0]
        context, weights, attention = self.attend(h, state.memory, state.attention)
        attentional = self.decoder.attentional(context, h)
        return attentional, LuongState(layers, attentional, state.memory, attention), weights

    def run(self, batch: BatchLike, inputs: Array, seeds: Array | None) -> Pass:
        """Compute features from decoder inputs (B, T), with dropout by seeds (B,) or without."""
        drop, lengths = dropping(self.config.dropout, seeds), np.asarray(batch.source_lengths)
        states, last, encoder_backward = self._encode_vjp(batch, seeds)
        attention = AttentionLoop(self.mechanism, self.from_context, states, lengths, seeds)
        y, target_back = self.target_embedding.vjp(inputs)
        y, undrop_target = drop(y, Place.TARGET)
        part, part_back = self.decoder.inputs[0].vjp(y)
        way = AtOnce if self.decoder.feed is None else StepByStep
        decoder = way(self.decoder, attention, last, drop, seeds is not None and self.config.dropout > 0)
        x, undrop_features = drop(decoder.forward(part), Place.FEATURES)

        def backward(dx: Array) -> None:
            d_part, d_last = decoder.backward(undrop_features(dx))
            target_back(undrop_target(part_back(d_part)))
            encoder_backward(attention.finish(), d_last)

        return Pass(x, backward, attention)

    def _encode_vjp(self, batch: BatchLike, seeds: Array | None) -> tuple[Array, Any, Callable[[Array, Any], None]]:
        drop, lengths = dropping(self.config.dropout, seeds), np.asarray(batch.source_lengths)
        x, embedding_back = self.source_embedding.vjp(padded(batch.source, lengths))
        x, undrop = drop(x, Place.SOURCE)
        if seeds is None:
            states, last = self.encoder.forward(x, None, lengths)
            return states, last, lambda d_states, d_last: None
        states, last, encoder_back = self.encoder.vjp(x, None, lengths, seeds=derive(seeds, Place.STATES))

        def backward(d_states: Array, d_last: Any) -> None:
            embedding_back(undrop(encoder_back(d_states, d_last)[0]))

        return states, last, backward
